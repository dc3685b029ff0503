"""Hold each message back for a moment; nobody but its sender waits."""

import asyncio

from filtered_websocket.filters.base import WebSocketMessageFilter


class SlowFilter(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(0.2)
