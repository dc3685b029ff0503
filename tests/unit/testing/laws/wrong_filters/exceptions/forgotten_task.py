"""Start a task that fails, which nobody awaits."""

import asyncio

from filtered_websocket.filters.base import WebSocketMessageFilter

tasks = set()


class Later(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        task = asyncio.get_running_loop().create_task(reply(web_socket_instance, bytes(msg)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def reply(web_socket_instance, msg):
    await asyncio.sleep(1)
    web_socket_instance.sendMessage(str(float(msg)))
