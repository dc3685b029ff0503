"""Sleep in a task, which does not help."""

import asyncio
from time import sleep  # noqa: TID251

from filtered_websocket.filters.base import WebSocketMessageFilter


class Later(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        asyncio.get_running_loop().create_task(later())


async def later():
    sleep(0.001)  # noqa: ASYNC251 - it is wrong
