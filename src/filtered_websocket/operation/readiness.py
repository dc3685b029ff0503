"""Whether new clients should be sent to this server."""

from __future__ import annotations

from typing import Any

__all__ = ["Readiness"]


class Readiness:
    """Know why the server should get no new clients: it starts, its storage is away, it drains."""

    def __init__(self, storage_object: Any) -> None:
        """Ask `storage_object` too, unless it is a class of 0.4.1, which knows nothing of this."""
        self._storage_why_not = getattr(storage_object, "why_not_ready", str)
        self._why_not = "starting"

    def begin(self) -> None:
        """Be ready as far as the server is concerned: it listens."""
        self._why_not = ""

    def end(self) -> None:
        """Never be ready again: the server is about to stop."""
        self._why_not = "draining"

    def why_not(self) -> str:
        """Return the reason in a few words, "" when the server is ready."""
        return self._why_not or self._storage_why_not()
