"""Broadcast with aiohttp: python aiohttp_server.py PORT."""

import asyncio
import sys

import uvloop
from aiohttp import web

clients = set()


async def handle(request):
    sender = web.WebSocketResponse(compress=False)
    await sender.prepare(request)
    clients.add(sender)
    try:
        async for message in sender:
            for client in list(clients):
                if client is not sender:
                    await client.send_str(message.data)
    finally:
        clients.remove(sender)
    return sender


async def main(port):
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


uvloop.run(main(int(sys.argv[1])))
