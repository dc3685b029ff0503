"""Print each published item to standard output."""

from __future__ import annotations

from typing import Any

from ..escapes import printable
from .base import WebSocketConsumerFilter


class StdoutPubSubFilter(WebSocketConsumerFilter):
    """Print the item with its bytes as text; bytes that are not UTF-8 are shown escaped."""

    @classmethod
    def filter(cls, web_socket_instance: Any, item: Any) -> None:
        if isinstance(item, dict):
            item = {key: as_text(value) for key, value in item.items()}
        text = str(as_text(item))
        print(f"--PUBSUB--\n{printable(text)}", flush=True)


def as_text(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="backslashreplace")
    return value


BroadcastMessageFilter = StdoutPubSubFilter
