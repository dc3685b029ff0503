"""Sync filters of `chaos`, in all chains."""

from __future__ import annotations

from typing import Any

from filtered_websocket.filters.base import (
    RejectHandshake,
    Request,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)

from .chaos import act, letter_of


class Data(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        if data.endswith(b"f"):
            raise ValueError


class Handshake(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, request: Request) -> None:
        web_socket_instance.sendMessage("early")
        if "reject" in request.query:
            raise RejectHandshake(403)
        if "fail" in request.query:
            raise ValueError


class First(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        return act(web_socket_instance, letter_of(data, 0))


class Second(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        return act(web_socket_instance, letter_of(data, 1))


class Gone(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, data: Any) -> None:
        web_socket_instance.users.broadcast("gone")
        raise ValueError


class Item(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance: Any, item: Any) -> None:
        web_socket_instance.users.broadcast(item)
        if item == "f":
            raise ValueError
