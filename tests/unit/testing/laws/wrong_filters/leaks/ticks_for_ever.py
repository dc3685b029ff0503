"""Send the time to a client, also when it is gone."""

import asyncio

from filtered_websocket.filters.base import WebSocketConnectFilter

tasks = set()


class Ticker(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        tasks.add(asyncio.get_running_loop().create_task(tick(web_socket_instance)))


async def tick(web_socket_instance):
    while True:
        await asyncio.sleep(10)
        if web_socket_instance.is_open:
            web_socket_instance.sendMessage("tick")
