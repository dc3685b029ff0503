"""Errors of the wire."""

from __future__ import annotations


class FrameError(Exception):
    """Report a frame that is incomplete or malformed."""


class ProtocolError(Exception):
    """Report a peer that breaks the protocol; `status` is the HTTP status it gets for it."""

    def __init__(self, reason: str = "", status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
