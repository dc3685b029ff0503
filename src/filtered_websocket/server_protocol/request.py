"""The request that opens a connection: reading it, and what RFC 6455 asks of it (section 4.2.1).

What belongs here: bytes to a `Request`, or the error to answer. What does not: sockets, times, and
what the filters think of the request (`handshake`).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha1
from urllib.parse import urlsplit

from multidict import istr

from ..typing import Request
from .exception import ProtocolError

__all__ = [
    "accept_response",
    "asks_for_websocket",
    "check_header",
    "check_upgrade",
    "parse_request",
]

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_request_line = re.compile(rf"({TOKEN}) ([^\s\x00-\x1f\x7f]+) HTTP/(\d)\.(\d)").fullmatch
# The blanks around a value are stripped, not matched: that would take cubic time for many.
_header_line = re.compile(rf"({TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
_header_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_token = re.compile(TOKEN).fullmatch

# Connections share the names of their headers, which would cost each of them 130 bytes a name. An
# `istr` knows its lower case; clients that make up names cannot have more than so many kept.
_name = lru_cache(maxsize=128)(istr)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


def parse_request(head: bytes, peer: str = "") -> Request:
    """Parse the head of a request, without the empty line (RFC 9112 sections 3 and 5).

    Raises ProtocolError with the status to answer.
    """
    request_line, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
    match = _request_line(request_line)
    if match is None:
        raise ProtocolError("this is not an HTTP request")
    method, target, major, minor = match.groups()
    if major != "1":
        raise ProtocolError("only HTTP/1.1 is spoken here", 505, kind="version")
    headers = []
    for line in lines:
        header = _header_line(line)
        if header is None:
            raise ProtocolError("a header is malformed")
        # HTTP/1.0 has no Upgrade: a proxy that speaks it does not mean what it passes on.
        if minor != "0" or header[1].lower() != "upgrade":
            headers.append((_name(header[1]), header[2].strip("\t ")))
    request = Request(method, _origin_form(target), headers, peer)
    if minor != "0" and len(request.headers.getall("Host", [])) != 1:
        raise ProtocolError("exactly one Host header is needed")
    return request


def _origin_form(target: str) -> str:
    """Return path and query of a request target (RFC 9112 section 3.2)."""
    if target.startswith("/") or target == "*":
        return target
    try:
        parts = urlsplit(target)
    except ValueError:
        raise ProtocolError("the request target is malformed") from None
    if parts.scheme.lower() not in ("http", "https", "ws", "wss") or not parts.netloc:
        raise ProtocolError("the request target is malformed")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def asks_for_websocket(request: Request) -> bool:
    """Tell whether the client wants to change to WebSocket."""
    return "websocket" in _tokens(request, "Upgrade")


def check_upgrade(request: Request) -> None:
    """Raise ProtocolError unless the request is a client's opening handshake (RFC 6455 4.2.1)."""
    headers = request.headers
    if request.method != "GET":
        raise ProtocolError("a WebSocket handshake is a GET request", 405, {"Allow": "GET"})
    if "Host" not in headers:
        raise ProtocolError("exactly one Host header is needed")
    if "upgrade" not in _tokens(request, "Connection"):
        raise ProtocolError("the header `Connection: Upgrade` is missing")
    if headers.getall("Sec-WebSocket-Version", []) != ["13"]:
        raise ProtocolError("only version 13 of WebSocket is spoken here", 426, kind="version")
    keys = headers.getall("Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        raise ProtocolError("the header Sec-WebSocket-Key must be 16 bytes in base64, once")
    sizes = headers.getall("Content-Length", [])
    if "Transfer-Encoding" in headers or any(size.strip("0") for size in sizes):
        raise ProtocolError("a WebSocket handshake has no body")


def _tokens(request: Request, header: str) -> set[str]:
    values = request.headers.getall(header, [])
    return {token.strip().lower() for value in values for token in value.split(",")}


def _is_key(value: str) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except ValueError:
        return False


def accept_response(request: Request, headers: Mapping[str, str]) -> bytes:
    """Return the 101 that opens the connection, with `headers` in it (RFC 6455 section 4.2.2)."""
    key = request.headers["Sec-WebSocket-Key"].encode()
    accept = b64encode(sha1(key + GUID, usedforsecurity=False).digest()).decode()
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    ).encode("latin-1")


def check_header(name: object, value: object) -> None:
    """Raise ValueError for what a filter wants to send and HTTP cannot carry."""
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ValueError(f"header {name!r}: name and value must be str")
    if not _token(name) or not _header_value(value):
        raise ValueError(f"header {name!r} is not valid HTTP")
