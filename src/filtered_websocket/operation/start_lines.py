"""The start lines: what runs, for whoever has started it.

What belongs here: what they say and how they look. What does not: the page of `--explain`.
"""

from __future__ import annotations

import logging
import socket
import sys
from argparse import Namespace
from collections.abc import Sequence

from ..filters.base import FilterBase
from ..server import FilteredWebSocketFactory
from ..server_protocol.origins import is_loopback
from ..sockets import authority
from . import machine
from .explain import chain_name

__all__ = ["announce"]

logger = logging.getLogger(__name__)


def announce(
    options: Namespace,
    sockets: Sequence[socket.socket],
    metrics_sockets: Sequence[socket.socket],
    factory: FilteredWebSocketFactory,
    *,
    is_activated: bool,
) -> None:
    """Say what runs: in aligned lines on a terminal, else as log lines."""
    memory, tls = machine.find_memory(), options.key is not None
    lines = _description(options, sockets, factory, is_activated=is_activated)
    room = machine.room(factory.limits, memory, tls=tls)
    lines.append(("room for", f"{room.clients:,} clients ({room.bound})"))
    if metrics_sockets:
        lines.append(("metrics", _url(metrics_sockets, "http")))
    if sys.stderr.isatty() and options.log_format == "text":
        width = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:>{width}}  {text}" for name, text in lines), file=sys.stderr)
    else:
        for name, text in lines:
            logger.info("%s: %s", name, text)
    if warning := machine.warning_of(factory.limits, memory, tls=tls):
        logger.warning(warning)


def _description(
    options: Namespace,
    sockets: Sequence[socket.socket],
    factory: FilteredWebSocketFactory,
    *,
    is_activated: bool = False,
) -> list[tuple[str, str]]:
    ports = [s for s in sockets if s.family != socket.AF_UNIX]
    if ports:
        lines = _ports(ports, "https" if options.key else "http")
    else:
        path = sockets[0].getsockname() if is_activated else options.unix_socket
        lines = [("fws_server", f"unix:{path}"), ("open to", "whom its directory lets in")]
    if is_activated:
        passed_on = "what the service manager has passed on, not on --port, --host, --unix_socket"
        lines.append(("listens on", passed_on))
    if not any(chain.chain().steps for chain in FilterBase.__subclasses__()):
        lines.append(("filters", "none"))
    for chain in FilterBase.__subclasses__():
        steps = [name for name, _ in chain.chain().steps]
        if steps:
            lines.append((chain_name(chain), " | ".join(steps)))
    storage = type(factory.storage_object)
    lines.append(("storage", f"{storage.__module__}.{storage.__name__}"))
    if options.config:
        lines.append(("config", options.config))
    return lines


def _ports(sockets: Sequence[socket.socket], scheme: str) -> list[tuple[str, str]]:
    addresses = [s.getsockname()[:2] for s in sockets]
    if all(is_loopback(address) for address, _ in addresses):
        open_to = "this machine only; --host '*' lets others in"
    else:
        open_to = ", ".join(authority(*address) for address in addresses)
    return [("fws_server", _url(sockets, scheme)), ("open to", open_to)]


def _url(sockets: Sequence[socket.socket], scheme: str) -> str:
    address, port = sockets[0].getsockname()[:2]
    by_name = address in ("0.0.0.0", "::") or (len(sockets) > 1 and is_loopback(address))
    return f"{scheme}://{authority('localhost' if by_name else address, port)}/"
