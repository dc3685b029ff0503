"""Errors of the wire."""

from __future__ import annotations


class FrameError(Exception):
    """Report a frame that is incomplete or malformed."""


class ProtocolError(Exception):
    """Report a handshake that breaks the protocol; `status` is the HTTP status it gets for it."""

    def __init__(self, reason: str = "", status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class WireError(Exception):
    """Report an open connection that has to be closed with `code` (RFC 6455 section 7.4.1)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
