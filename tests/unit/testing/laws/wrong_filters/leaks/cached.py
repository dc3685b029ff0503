"""Cache something of each client, without a bound."""

from functools import cache

from filtered_websocket.filters.base import WebSocketMessageFilter


class Colour(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return msg + colour_of(web_socket_instance.id)


@cache
def colour_of(id):
    return b"#%06x" % (id.int & 0xFFFFFF)
