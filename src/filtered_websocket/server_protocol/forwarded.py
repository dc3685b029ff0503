"""Who the client is, behind proxies that the server trusts.

A proxy names the client it speaks for in a header: each adds, on the right, the address that called
it. Anybody can send these headers, so only what trusted proxies have added is believed.

What belongs here: reading these headers. What does not: what a client may do (`admission`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from multidict import CIMultiDictProxy

from ..addresses import Address, parse_address, parse_network
from .exception import ProtocolError

__all__ = ["HOPS", "TrustedProxies"]

MAX_SIZE = 8192  # bytes of one header, all its lines together

# Brackets and a port may surround the address (RFC 7239 section 6).
_node = re.compile(r"(?:\[([^]]+)]|([0-9.]+))(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]+))?").fullmatch
# Backslashes before a quote are matched from the first one on: many would take quadratic time.
_marks = re.compile(r'(?<!\\)(?:\\\\)*+"|[,;]').finditer


class TrustedProxies:
    """Tell the address of a client from those of the proxies before it."""

    def __init__(self, proxies: Iterable[str]) -> None:
        """Take networks, addresses, and `unix` for a proxy that connects through a Unix socket.

        Raises ValueError for anything else.
        """
        entries = set(proxies)
        self._unix = "unix" in entries
        self._networks = [parse_network(entry) for entry in entries - {"unix"}]

    def client(self, peer: str, headers: CIMultiDictProxy[str]) -> str:
        """Return the address of the client that `peer` speaks for: itself unless it is trusted.

        `peer` is an address without port, or "" for a Unix socket. An IPv4-mapped address becomes
        IPv4, zones are dropped. Raises ProtocolError: 400 when the headers contradict each
        other, 431 when one is too large.
        """
        address = _parse_node(peer)
        if address is None:
            is_trusted = self._unix and not peer
        else:
            is_trusted = self._trusts(address)
            peer = str(address)
        if not is_trusted:
            return peer
        clients = {
            self._client_of(hops(_joined(name, headers)), peer)
            for name, hops in HOPS.items()
            if name in headers
        }
        if len(clients) > 1:
            # One is from the client, passed on by a proxy that knows the other one only. Whichever
            # we believed, some proxies would let anybody choose an address.
            raise ProtocolError(
                "X-Forwarded-For and Forwarded name different clients: "
                "the proxy must remove the one that it does not set"
            )
        return clients.pop() if clients else peer

    def _client_of(self, hops: Iterable[str], peer: str) -> str:
        """Follow the hops, nearest first, for as long as trusted proxies have added them."""
        client = peer
        for hop in hops:
            address = _parse_node(hop)
            # An empty hop ends the walk as well, though lists may have empty elements (RFC 9110
            # section 5.6.1): a proxy that knew no address may have added it.
            if address is None:
                break
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _parse_node(text: str) -> Address | None:
    """Return the address of a node; None when it is unknown, obfuscated or malformed."""
    match = _node(text)
    try:
        return parse_address(match[1] or match[2] if match else text)
    except ValueError:
        return None


def _joined(name: str, headers: CIMultiDictProxy[str]) -> str:
    value = ",".join(headers.getall(name))
    if len(value) > MAX_SIZE:
        raise ProtocolError(f"{name} is over {MAX_SIZE} bytes", 431, kind="header_size")
    return value


# Hops, nearest first


def _of_x_forwarded_for(value: str) -> Iterator[str]:
    return (hop.strip(" \t") for hop in reversed(value.split(",")))


def _of_forwarded(value: str) -> Iterator[str]:
    """Yield what the elements have after `for=` (RFC 7239 section 4), "" where that is not one."""
    for element in _split(value, ","):
        pairs = [pair.strip(" \t").partition("=") for pair in _split(element, ";")]
        nodes = [node for name, _, node in pairs if name.lower() == "for"]
        yield _unquoted(nodes[0]) if len(nodes) == 1 else ""


HOPS: dict[str, Callable[[str], Iterator[str]]] = {
    "X-Forwarded-For": _of_x_forwarded_for,
    "Forwarded": _of_forwarded,
}


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of `text` from the right; within quotes nothing separates.

    A quote that the client has left open does not reach what proxies have added after it.
    """
    end = len(text)
    quoted = False
    for mark in reversed(list(_marks(text))):
        if mark[0].endswith('"'):
            quoted = not quoted
        elif mark[0] == separator and not quoted:
            yield text[mark.end() : end]
            end = mark.start()
    yield text[:end]


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
