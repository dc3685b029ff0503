"""Sleep, and everybody with it."""

import time

from filtered_websocket.filters.base import WebSocketMessageFilter


class Slow(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        time.sleep(0.001)  # noqa: TID251
