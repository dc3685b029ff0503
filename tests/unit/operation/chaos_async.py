"""Async filters of `chaos`, which wait before, or after, they do anything."""

from __future__ import annotations

import asyncio
from typing import Any

from filtered_websocket.filters.base import (
    Request,
    WebSocketConnectFilter,
    WebSocketConsumerFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)

from .chaos import act, letter_of


class Handshake(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, request: Request) -> None:
        await asyncio.sleep(1)


class Open(WebSocketConnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, data: Any) -> None:
        web_socket_instance.sendMessage("welcome")
        await asyncio.sleep(0.5)


class Third(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        await asyncio.sleep(1)
        return act(web_socket_instance, letter_of(data, 2))


class Fourth(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        result = act(web_socket_instance, letter_of(data, 3))
        await asyncio.sleep(0)
        return result


class Gone(WebSocketDisconnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, data: Any) -> None:
        await asyncio.sleep(2)
        web_socket_instance.users.broadcast("gone")


class Item(WebSocketConsumerFilter):
    @classmethod
    async def filter(cls, web_socket_instance: Any, item: Any) -> None:
        await asyncio.sleep(0.1)
        web_socket_instance.users.broadcast(item)
