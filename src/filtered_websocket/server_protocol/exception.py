"""Errors of the wire."""

from __future__ import annotations

from collections.abc import Mapping

# Close codes (RFC 6455 section 7.4.1)
NORMAL = 1000
PROTOCOL_ERROR = 1002
INVALID_TEXT = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
TRY_AGAIN_LATER = 1013


class FrameError(Exception):
    """Report a frame that is incomplete or malformed."""


class ProtocolError(Exception):
    """Report a handshake that breaks the protocol or a limit.

    `status` is the HTTP status that it gets for it, `headers` is added to that response. `advice`
    is for the operator only, `kind` is what it counts as.
    """

    def __init__(
        self,
        reason: str = "",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        *,
        advice: str = "",
        kind: str = "bad_request",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.headers = dict(headers or {})
        self.advice = advice
        self.kind = kind


class WireError(Exception):
    """Report an open connection that has to be closed with `code` (RFC 6455 section 7.4.1)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
