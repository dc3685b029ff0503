"""Join all that comes in one turn of the event loop."""

import asyncio

from filtered_websocket.filters.base import WebSocketMessageFilter


class Join(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        waiting = web_socket_instance.state.setdefault("waiting", [])
        waiting.append(bytes(msg))
        if len(waiting) == 1:
            asyncio.get_running_loop().call_soon(send, web_socket_instance)


def send(web_socket_instance):
    waiting = web_socket_instance.state.pop("waiting")
    web_socket_instance.sendMessage(b"".join(waiting))
