"""Send what a command prints to all clients; it runs as long as there are any."""

import os
from asyncio import Task, create_subprocess_shell, sleep
from asyncio.subprocess import PIPE, STDOUT
from contextlib import suppress
from signal import SIGKILL

from filtered_websocket.filters.base import WebSocketConnectFilter, WebSocketDisconnectFilter
from filtered_websocket.server import ConsumerQueue, FilteredWebSocket

COMMAND = os.environ["COMMAND"]
running: list[Task[None]] = []


class StartCommand(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        if not running:
            running.append(web_socket_instance.factory.spawn(run(web_socket_instance.queue)))


class EndCommand(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        if running and not web_socket_instance.users:  # the last one; all go when the server stops
            running.pop().cancel()


async def run(queue: ConsumerQueue) -> None:
    sh = await create_subprocess_shell(COMMAND, stdout=PIPE, stderr=STDOUT, start_new_session=True)
    try:
        while sh.stdout and (output := await sh.stdout.read(16384)):
            queue.put({"type": "message", "data": output})
            await sleep(0.05)  # a command that prints faster than that has to wait
    finally:
        with suppress(ProcessLookupError):
            os.killpg(sh.pid, SIGKILL)  # the shell, and what it has started
        await sh.wait()
