"""Broadcast over TLS with `websockets`: python tls_websockets.py PEM PORT."""

import asyncio
import ssl
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

clients = set()


async def handle(client):
    clients.add(client)
    try:
        async for message in client:
            broadcast(clients - {client}, message)
    except ConnectionClosed:
        pass  # the clients of the benchmark just go
    finally:
        clients.remove(client)


async def main(pem, port):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(pem)
    settings = {"ssl": context, "compression": None, "ping_interval": None}
    async with serve(handle, "127.0.0.1", port, **settings) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2])))
