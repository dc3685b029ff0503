"""Wait for the end of a line that never comes."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Line(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        line = bytes(msg)
        while line.startswith(b"  "):
            line = line.replace(b"\t", b" ")
        return line
