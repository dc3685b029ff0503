"""Answer with what a function knows that takes its time; nobody but the sender waits."""

import asyncio
import socket

from filtered_websocket.filters.base import WebSocketMessageFilter


class LookupFilter(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        address = await asyncio.to_thread(socket.gethostbyname, msg.decode())
        web_socket_instance.sendMessage(address)
