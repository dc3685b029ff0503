"""Which web pages may connect (RFC 6454, RFC 6455 section 10.2).

A browser lets any page of the web open a WebSocket to any server, and names the page in the Origin
header. Programs that are not browsers send none, and are let in.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["OriginPolicy", "is_loopback"]


class OriginPolicy:
    """Decide by a list of origins, or by the rule that a page may reach its own host only."""

    def __init__(self, allowed: Collection[str] | None, *, loopback_only: bool) -> None:
        """Take `allowed` (`*`, or origins like `https://chat.example`), or None for the rule.

        `loopback_only` tells that the server listens to this machine alone. Then pages from
        elsewhere are refused even under the rule: their name may point here for a moment only (DNS
        rebinding). Raises ValueError for an entry that is not an origin.
        """
        self._any = allowed is not None and "*" in allowed
        self._allowed = None if allowed is None else {_normal(o) for o in allowed if o != "*"}
        self._loopback_only = loopback_only

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Tell whether a page of `origin` may connect to what it calls `host` (the two headers)."""
        if origin is None or self._any:
            return True
        if self._allowed is not None:
            try:
                return _normal(origin) in self._allowed
            except ValueError:
                return False
        name = _host_name(origin)
        if name is None or host is None:
            return False
        if is_loopback(name):
            return is_loopback(_host_name("//" + host) or "")
        return not self._loopback_only and name == _host_name("//" + host)


def is_loopback(name: str) -> bool:
    """Tell whether a host name or address means this machine (RFC 6761 section 6.3)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(url: str) -> str | None:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return None
    return name.rstrip(".") if name else None


def _normal(origin: str) -> str:
    if origin == "null":  # what browsers send for pages of no host: files, sandboxed frames
        return origin
    message = f"{origin!r} is not an origin: write scheme and host, like https://chat.example"
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise ValueError(message) from None
    if not parts.scheme or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(message)
    return f"{parts.scheme}://{parts.hostname}:{port}"
