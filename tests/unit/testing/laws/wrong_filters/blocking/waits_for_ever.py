"""Wait for a lock that is held."""

import threading

from filtered_websocket.filters.base import WebSocketMessageFilter

lock = threading.Lock()


class Lock(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg.startswith(b"/lock"):
            lock.acquire()
