"""Drop what a client sends beyond five messages in ten seconds, and tell it so once."""

import asyncio
from collections import deque

from filtered_websocket.filters.base import DropMessage, Message, WebSocketMessageFilter
from filtered_websocket.server import FilteredWebSocket

MESSAGES, SECONDS = 5, 10.0


class RateLimit(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: Message) -> None:
        state, now = web_socket_instance.state, asyncio.get_running_loop().time()
        times: deque[float] = state.setdefault("times", deque(maxlen=MESSAGES))
        if len(times) < MESSAGES or now - times[0] >= SECONDS:
            times.append(now)
            state["was_told"] = False
            return
        if not state["was_told"]:
            state["was_told"] = True
            web_socket_instance.sendMessage("slow down: five messages in ten seconds")
        raise DropMessage
