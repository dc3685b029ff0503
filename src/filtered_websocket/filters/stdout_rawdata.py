"""Print all bytes that clients send, handshakes and frames included, to standard output."""

from __future__ import annotations

from typing import Any

from ..escapes import printable
from .base import WebSocketDataFilter


class StdoutRawDataFilter(WebSocketDataFilter):
    """Print each chunk as text; bytes that are not UTF-8 are shown escaped."""

    @classmethod
    def filter(cls, web_socket_instance: Any, data: bytearray) -> None:
        text = data.decode(errors="backslashreplace")
        print(f"--RAWDATA--\n{printable(text)}", flush=True)
