"""The filters of the soak: they sort, wait, fail now and then, and count what the server holds."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
from collections import Counter
from typing import Any

from filtered_websocket.filters.base import DropMessage, Message, WebSocketMessageFilter


class CountFilter(WebSocketMessageFilter):
    """Answer `!count` with how many there are of all that could be left behind."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        if msg == b"!count":
            gc.collect()
            web_socket_instance.sendMessage(json.dumps(_counts(web_socket_instance)))
            raise DropMessage


class HostileFilter(WebSocketMessageFilter):
    """Keep what hostile peers send from the others."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        if web_socket_instance.request.path == "/hostile":
            raise DropMessage


class AsyncFilter(WebSocketMessageFilter):
    """Wait a bit, and sometimes longer, so that messages queue up behind."""

    @classmethod
    async def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        await asyncio.sleep(0.005 if msg.endswith(b"7") else 0)


class FailingFilter(WebSocketMessageFilter):
    """Fail where a client asks for it: that message must not reach anybody."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        if msg.startswith(b"fail"):
            raise ValueError("a client asked for it")


class AnnounceFilter(WebSocketMessageFilter):
    """Broadcast what begins with `all`; the rest is for token groups."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        if msg.startswith(b"all "):
            web_socket_instance.users.broadcast(msg, skip=web_socket_instance.id)
            raise DropMessage


def _counts(connection: Any) -> dict[str, Any]:
    factory, acceptor = connection.factory, connection._acceptor
    objects = gc.get_objects()
    resident = _resident()
    _trim()
    return {
        "tasks of the event loop": len(asyncio.all_tasks()),
        "tasks of the server": len(factory._tasks),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "users": len(factory.users),
        "users' windows": len(factory.users._windows),
        "sockets": acceptor.counters.sockets,
        "handshakes": len(acceptor._deadlines),
        "admission": acceptor.admission.count,
        "addresses": len(acceptor.admission.count_by_address),
        "parsers": max(len(factory.parsers._spares), 32),
        "storage": len(factory.storage_object.storage),
        "pings": len(factory.keepalive._deadlines),
        "leaving": len(factory.leaving),
        "queue": factory.queue.qsize(),
        "resident KiB": resident,
        "resident KiB after a trim": _resident(),
        "types": Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in objects),
    }


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _trim() -> None:
    """Let the C library give back what is free: what is left then is in use, or scattered."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
