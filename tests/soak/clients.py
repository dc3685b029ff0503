"""Good clients, which check all that they get, and hostile ones, which are not worth a check.

Each is a function that runs one conversation; the soak runs it again and again in a thread. Good
ones have an event loop there: a TLS connection must not be read and written in two threads.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from itertools import count

from websockets.asyncio.client import ClientConnection, connect

from ..integration.wire import CONTINUATION, PING, TEXT, Peer, frame, head

MESSAGES = 30  # of each client in a room
HOSTILE = head("/hostile", Sec_WebSocket_Extensions="permessage-deflate")
BOMB = zlib.compress(bytes(50_000_000), wbits=-15)
TIMEOUT = 20.0

Server = tuple[int, ssl.SSLContext | None]  # its port; how to trust it, with TLS
names = count()  # of rooms and speakers


# Good clients


def good(conversation: Callable[[Server], Awaitable[None]]) -> Callable[[Server], None]:
    @wraps(conversation)
    def run(server: Server) -> None:
        asyncio.run(conversation(server))

    return run


@good
async def chat_in_a_room(server: Server) -> None:
    """Three clients talk in turns and all at once; each gets what the others say, in order."""
    async with join(server) as a, join(server) as b, join(server) as c:
        await talk_in(next(names), (a, b, c))


async def talk_in(room: int, clients: tuple[ClientConnection, ...]) -> None:
    for client in clients:
        await client.send(f"token:room{room}")
        await expect(client, f"Successfully registered with broadcast group: room{room}")
    for number in range(MESSAGES):
        for sender, client in enumerate(clients):
            text = f"{sender} {number} {'ab' * random.choice((1, 60, 3000))} {number}"
            if random.random() < 0.1:
                await client.send("fail")
            if random.random() < 0.1:
                await client.ping()
            await client.send([text[:7], text[7:]] if random.random() < 0.3 else text)
    for receiver, client in enumerate(clients):
        talk = [(await next_of_the_room(client)).split()[:2] for _ in range(2 * MESSAGES)]
        for sender in {0, 1, 2} - {receiver}:
            numbers = [int(number) for who, number in talk if int(who) == sender]
            assert numbers == list(range(MESSAGES)), f"room {room}: {numbers} of {sender}"


@good
async def listen(server: Server) -> None:
    """A client that only listens gets what each speaker says to all, once and in order."""
    heard: defaultdict[str, list[int]] = defaultdict(list)
    async with join(server) as client:
        for _ in range(20):
            speaker, number = (await receive(client)).removeprefix("all ").split()
            heard[speaker].append(int(number))
    for numbers in heard.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers


@good
async def announce(server: Server) -> None:
    """One client speaks to all, some times a second."""
    speaker = next(names)
    async with join(server) as client:
        for number in range(100):
            await client.send(f"all {speaker} {number}")
            with suppress(TimeoutError):
                await receive(client, within=0.1)


def join(server: Server) -> connect:
    port, tls = server
    scheme = "ws" if tls is None else "wss"
    compression = random.choice(("deflate", None))
    return connect(f"{scheme}://localhost:{port}/", ssl=tls, compression=compression)


async def receive(client: ClientConnection, within: float = TIMEOUT) -> str:
    async with asyncio.timeout(within):
        return str(await client.recv())


async def expect(client: ClientConnection, text: str) -> None:
    received = await next_of_the_room(client)
    assert received == text, received


async def next_of_the_room(client: ClientConnection) -> str:
    while (text := await receive(client)).startswith("all "):
        pass
    return text


# Hostile ones


def reset_in_a_frame(server: Server) -> None:
    hostile(server, frame(TEXT, bytes(10_000))[:5000]).reset()


def send_garbage(server: Server) -> None:
    with Peer(server[0], tls=server[1]) as peer:
        peer.send(random.randbytes(20_000))
        peer.read_to_end()
    with hostile(server, random.randbytes(1000)) as peer:
        peer.read_to_end()


def stop_in_the_handshake(server: Server) -> None:
    with Peer(server[0]) as peer:  # without TLS, where the server expects it
        peer.send(HOSTILE[:20])
        peer.read_to_end()


def stop_in_a_message(server: Server) -> None:
    with hostile(server, frame(TEXT, b"x" * 5000, fin=False)) as peer:
        peer.read(2)


def compress_rubbish(server: Server) -> None:
    with hostile(server, frame(TEXT, random.randbytes(500), rsv=4)) as peer:
        peer.read_to_end()


def send_a_bomb(server: Server) -> None:
    with hostile(server, frame(TEXT, BOMB, rsv=4)) as peer:
        peer.read_to_end()


def flood(server: Server) -> None:
    kind = random.choice((frame(PING, b"x"), frame(TEXT, b"x")))
    with hostile(server, kind * 5000) as peer:
        peer.read(100) if kind[0] & 15 == PING else None


def send_byte_by_byte(server: Server) -> None:
    with hostile(server) as peer:
        for byte in frame(TEXT, b"x" * 300, fin=False) + frame(CONTINUATION, b"y"):
            peer.send(bytes([byte]))


def read_nothing(server: Server) -> None:
    with Peer(server[0], tls=server[1], read_buffer=4096) as peer:
        peer.open()
        for _ in range(2000):
            peer.send(frame(PING, b"x" * 100))


def hostile(server: Server, then: bytes = b"") -> Peer:
    peer = Peer(server[0], tls=server[1])
    peer.send(HOSTILE + then)
    assert peer.read_answer().status == 101
    return peer


Conversation = Callable[[Server], None]
GOOD: tuple[Conversation, ...] = (chat_in_a_room, chat_in_a_room, listen, announce)
BAD: tuple[Conversation, ...] = (
    reset_in_a_frame,
    send_garbage,
    stop_in_the_handshake,
    stop_in_a_message,
    compress_rubbish,
    send_a_bomb,
    flood,
    send_byte_by_byte,
    read_nothing,
)
