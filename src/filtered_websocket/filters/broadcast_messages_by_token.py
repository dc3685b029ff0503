"""Send each message to the other clients of its sender's group.

A client joins a group by sending `token:NAME`; a second such message moves it to another one.
"""

from __future__ import annotations

import re
from typing import Any

from .base import (
    Message,
    WebSocketConnectFilter,
    WebSocketDisconnectFilter,
    WebSocketMessageFilter,
)

_registration = re.compile(rb"\s*token:(\S+)\s*").fullmatch


class TokenMessageFilter(WebSocketMessageFilter):
    """Register `token:NAME` messages; broadcast all others to the sender's group."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        registration = _registration(msg)
        if registration is not None:
            _join(web_socket_instance, registration[1].decode(errors="backslashreplace"))
        elif web_socket_instance.token is None:
            web_socket_instance.sendMessage("Error: No token has been set")
        else:
            web_socket_instance.users.broadcast(
                msg, skip=web_socket_instance.id, group=web_socket_instance.token
            )


class TokenConnectFilter(WebSocketConnectFilter):
    """Register a client whose token was set while it connected, by a handshake filter."""

    @classmethod
    def filter(cls, web_socket_instance: Any, data: None) -> None:
        if web_socket_instance.token is not None:
            web_socket_instance.storage_object.add(
                web_socket_instance.token, web_socket_instance.id
            )


class TokenDisconnectFilter(WebSocketDisconnectFilter):
    """Take a client that is gone out of its group."""

    @classmethod
    def filter(cls, web_socket_instance: Any, data: None) -> None:
        _leave(web_socket_instance)


def _join(web_socket_instance: Any, token: str) -> None:
    _leave(web_socket_instance)
    web_socket_instance.token = token
    web_socket_instance.storage_object.add(token, web_socket_instance.id)
    web_socket_instance.sendMessage(f"Successfully registered with broadcast group: {token}")


def _leave(web_socket_instance: Any) -> None:
    if web_socket_instance.token is not None:
        web_socket_instance.storage_object.remove(web_socket_instance.token, web_socket_instance.id)
