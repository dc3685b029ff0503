"""Broadcast with `websockets`: python websockets_server.py PORT."""

import sys
from contextlib import suppress

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosedError

clients = set()


async def handle(client):
    clients.add(client)
    with suppress(ConnectionClosedError):
        async for message in client:
            broadcast(clients - {client}, message)
    clients.remove(client)


async def main(port):
    async with serve(handle, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
