"""Print each message to standard output."""

from __future__ import annotations

from typing import Any

from ..escapes import printable
from .base import Message, WebSocketMessageFilter


class StdoutMessageFilter(WebSocketMessageFilter):
    """Print the sender's id and the message; bytes that are not UTF-8 are shown escaped."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        text = msg.decode(errors="backslashreplace")
        print(f"--MESSAGE--\n{web_socket_instance.id} => {printable(text)}", flush=True)


BroadcastMessageFilter = StdoutMessageFilter
