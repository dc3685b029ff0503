"""Broadcast with `websockets`: python websockets_server.py [PEM] PORT; a PEM is for TLS."""

import ssl
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


def tls_context(pem):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(pem)
    return context


async def main(*pem, port):
    settings = {
        "compression": None,
        "ping_interval": None,
        "ssl": tls_context(*pem) if pem else None,
    }
    async with serve(handle, "127.0.0.1", port, **settings) as server:
        await server.serve_forever()


uvloop.run(main(*sys.argv[1:-1], port=int(sys.argv[-1])))
