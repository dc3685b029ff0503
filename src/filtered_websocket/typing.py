"""The vocabulary of the server: what filters receive, raise and may rely on.

What belongs here: plain data and exceptions that several layers share. What does not: anything that
needs an event loop, a socket or an option.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Protocol
from urllib.parse import parse_qs, unquote
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy

__all__ = [
    "BroadcastTarget",
    "Data",
    "DropMessage",
    "FilterError",
    "Message",
    "RejectHandshake",
    "Request",
    "StartError",
]

Data = bytes | bytearray | str
"""What can be sent: bytes of either type, or text."""


class Message(bytearray):
    """Hold one received message, the mutable bytes that go down the message chain.

    `is_binary` tells whether it came as a binary message; set it to change how it is sent on.
    """

    is_binary: bool = False
    """Whether it is binary (RFC 6455 section 5.6), not text."""


class DropMessage(Exception):
    """End the chain for this message, in silence.

    Raised by filters. It is not an error: nothing is logged, and the connection lives on.
    """


class RejectHandshake(Exception):
    """Refuse a connection; raised by handshake filters only.

    The client gets `status`, `reason` and `headers` as an HTTP response (RFC 6455 section 4.2.2).
    Browsers hide it from their pages. Raises ValueError for another status than 400 to 599, and
    TypeError for a reason that is no text.
    """

    def __init__(
        self,
        status: int = 403,
        reason: str = "the connection was refused",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"a handshake is rejected with a status from 400 to 599, not {status}")
        if not isinstance(reason, str):
            raise TypeError(f"the reason of a rejection is str, not {type(reason).__name__}")
        super().__init__(status, reason)
        self.status = status
        """The HTTP status, from 400 to 599."""
        self.reason = reason
        """The body of the response; it is logged, too."""
        self.headers = dict(headers or {})
        """What is added to the headers of the response."""

    def __str__(self) -> str:
        return self.reason


class FilterError(Exception):
    """Report a filter that cannot run at all, found before the server listens."""


class StartError(Exception):
    """Report why the server cannot start: what, where, what now."""


class Request:
    """Describe the HTTP request that asked for the connection (RFC 6455 section 4.1)."""

    __slots__ = ("__dict__", "__weakref__", "headers", "method", "peer", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] | Mapping[str, str] = (),
        peer: str = "",
    ) -> None:
        self.method = method
        """The HTTP method: GET."""
        self.target = target
        """The request target as it was sent, with the query (RFC 9112 section 3.2)."""
        self.peer = peer
        """The address of the client, without the port; empty on a Unix socket."""
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict(headers))
        """The headers, read-only, in any case; `headers.getall(name)` has repeated ones."""

    def __repr__(self) -> str:
        # Neither query nor headers: both may carry secrets, and a repr ends up in logs.
        return f"<Request {self.method} {self.path} from {self.peer}>"

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded, without the query."""
        path = self.target.partition("?")[0]
        return unquote(path) if "%" in path else path

    @cached_property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated one, the first."""
        parsed = parse_qs(self.target.partition("?")[2], keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}

    @cached_property
    def cookies(self) -> dict[str, str]:
        """The cookies by name (RFC 6265 section 5.4); of a repeated one, the first."""
        cookies: dict[str, str] = {}
        for header in self.headers.getall("Cookie", []):
            for pair in header.split(";"):
                name, separator, value = pair.strip().partition("=")
                if separator:
                    cookies.setdefault(name, value.strip('"'))
        return cookies

    @cached_property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers, in its order of preference."""
        offers = self.headers.getall("Sec-WebSocket-Protocol", [])
        return [name.strip() for offer in offers for name in offer.split(",") if name.strip()]


class BroadcastTarget(Protocol):
    """What `users` needs of a connection: an id, and a way out for whole frames.

    `window_bits` is what was agreed on for compressing them (9 to 15), or 0.
    """

    id: UUID
    window_bits: int

    def write(self, data: bytes, /) -> None: ...
