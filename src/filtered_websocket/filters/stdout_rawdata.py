"""Print all bytes that clients send, handshakes and frames included, to standard output."""

from __future__ import annotations

from typing import Any

from .base import WebSocketDataFilter


class StdoutRawDataFilter(WebSocketDataFilter):
    """Print each chunk as text; bytes that are not UTF-8 are shown escaped."""

    @classmethod
    def filter(cls, web_socket_instance: Any, data: bytearray) -> None:
        print(f"--RAWDATA--\n{data.decode(errors='backslashreplace')}", flush=True)
