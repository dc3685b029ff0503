"""Look for spaces at the end with a regex that starts anew at each one."""

import re

from filtered_websocket.filters.base import WebSocketMessageFilter


class Trim(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return re.sub(rb"\s+$", b"", msg)
