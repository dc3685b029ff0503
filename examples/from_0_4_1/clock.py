"""Tell all clients the time, each second."""

import asyncio
import time

from filtered_websocket.filters.base import WebSocketConnectFilter


class ClockFilter(WebSocketConnectFilter):
    clock = None

    @classmethod
    def filter(cls, web_socket_instance, data):
        if cls.clock is None:  # this is the first client
            loop = asyncio.get_running_loop()
            cls.clock = loop.create_task(tell_the_time(web_socket_instance.users))


async def tell_the_time(users):
    while True:
        for user in users.values():
            user.sendMessage(time.strftime("%H:%M:%S"))
        await asyncio.sleep(1)
