"""Measure the fan-out path on its own: one process, no sockets, so that no time is the kernel's.

The bytes of masked frames come to a connection as the event loop would bring them; what it writes
goes nowhere. All between is the server's own: parser, chain, filter, `Users`. Before a scenario is
timed, what each client gets in it is compared with what it should get.
"""

import argparse
import asyncio
import gc
import math
import sys
import zlib
from collections import deque
from functools import cached_property
from time import process_time

import uvloop
from filters.echo import EchoFilter
from filters.loop import LoopFilter
from harness import SERVER_CORE, pin, positive

from filtered_websocket.filters.base import FilterBase, WebSocketMessageFilter
from filtered_websocket.filters.broadcast_messages import BroadcastMessagesFilter
from filtered_websocket.filters.broadcast_messages_by_token import TokenMessageFilter
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.server_protocol import server as wire
from filtered_websocket.server_protocol.frame import Frame
from filtered_websocket.server_protocol.handshake import Acceptor
from filtered_websocket.server_protocol.http import PlainPages
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.origins import OriginPolicy
from filtered_websocket.server_protocol.outbox import OVERHEAD

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
REQUEST_TO_COMPRESS = REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # RFC 6455 section 1.3
COMPRESSED = 0x40  # RSV1

CALM = {"ping_interval": 0, "handshake_timeout": 3600}  # limits without timers that would disturb
TOKEN = "group"
WAITING = 100  # messages in the queue of a slow client
CHECKED_TURNS = 2
REPEAT_SECONDS = 0.05


def main():
    options = parse_options()
    # Where valgrind counts, all takes fifty times as long, and a read must not be cut for that.
    wire.SLICE = math.inf
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.turns:
            runner.run(run(SCENARIOS[options.scenarios[0]], options.turns))
            return
        if sys.platform == "linux":
            pin(SERVER_CORE)
        print(f"{'':72}{'ns per':>11}{'':11}{'write() alone':>13}")
        for name in options.scenarios or SCENARIOS:
            scenario = SCENARIOS[name]
            seconds, bare = runner.run(measure(scenario, options.repeats))
            print(
                f"{name:12}{scenario.title:60}"
                f"{seconds * 1e9:11,.1f}  {scenario.unit:9}{bare / seconds:13.1%}",
                flush=True,
            )


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-r", "--repeats", type=positive, default=10, help="the best counts (10)")
    parser.add_argument("--turns", type=positive, help="so many of one scenario, unmeasured")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in SCENARIOS:
            parser.error(f"there is no scenario {name!r}; there are {', '.join(SCENARIOS)}")
    if options.turns and len(options.scenarios) != 1:
        parser.error("--turns is for one scenario")
    return options


async def run(scenario, turns):
    scenario.open()
    gc.freeze()
    for _ in range(turns):
        await turn(scenario)


async def measure(scenario, repeats):
    """Return the seconds of one unit of work, and those that only its `write` calls take."""
    writes = await check(scenario)
    scenario.open()
    gc.collect()
    gc.freeze()  # as the server does
    turns = math.ceil(REPEAT_SECONDS / await seconds(scenario, 1))
    best = min([await seconds(scenario, turns) for _ in range(repeats)])
    bare = min(write_seconds(writes, turns) for _ in range(repeats))
    return best / turns / scenario.units, bare / turns / scenario.units


async def check(scenario):
    """Return the writes of one turn; exit when a client gets anything else than it should."""
    scenario.open(keep=None)
    for _ in range(CHECKED_TURNS):
        await turn(scenario)
    writes = sum(len(client.written) for client in scenario.clients) // CHECKED_TURNS
    for number, client in enumerate(scenario.clients):
        got, expected = scenario.outcome(number, client)
        if got != expected:
            sys.exit(f"{scenario.title}: a client got {got!r:.200}, not {expected!r:.200}")
    return writes


async def seconds(scenario, turns):
    start = process_time()
    for _ in range(turns):
        await turn(scenario)
    return process_time() - start


async def turn(scenario):
    scenario.turn()
    await asyncio.sleep(0)  # in which the flush comes first


def write_seconds(writes, turns):
    calls = [deque(maxlen=0).append for _ in range(writes)]
    data = bytes(128)
    start = process_time()
    for _ in range(turns):
        for write in calls:
            write(data)
    return process_time() - start


class Client:
    """Be a client, and the transport to it: `written` has the last `keep` writes; None: all."""

    def __init__(self, acceptor, request, keep):
        self.written = deque(maxlen=keep)
        self.write = self.written.append
        self.protocol = acceptor()
        self.protocol.connection_made(self)
        self.send(request)

    def send(self, data):
        """Do what the event loop does with bytes that have come."""
        self.protocol.get_buffer(-1)[: len(data)] = data
        self.protocol.buffer_updated(len(data))

    def messages(self):
        """Return the messages that were written."""
        stream = memoryview(b"".join(self.written))
        messages = []
        while stream:
            frame = Frame(stream)
            messages.append(inflate(frame.msg) if stream[0] & COMPRESSED else bytes(frame.msg))
            stream = stream[frame.length() :]
        return messages

    # What the connection asks of a transport

    def set_protocol(self, protocol):
        self.protocol = protocol

    def get_extra_info(self, name):
        return ("127.0.0.1", 50000) if name == "peername" else None

    def is_closing(self):
        return False


def inflate(payload):
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff")


def chain_of(*filters):
    """Return a message chain of these alone: the server's has all that were imported."""
    base = type("Chain", (FilterBase,), {"accept": WebSocketMessageFilter.accept})
    for filter in filters:
        type(filter.__name__, (base,), {"filter": filter.filter})
    return base.chain()


def start_server(filter, limits):
    """Return a new server, and what takes connections for it."""
    server = FilteredWebSocketFactory(limits=limits, compress_from=256)
    server.message_chain = chain_of(filter)
    server.connect_chain = server.disconnect_chain = chain_of()
    origins = OriginPolicy(None, loopback_only=False)
    pages = PlainPages(console=False)
    return server, Acceptor(server, limits=limits, origins=origins, pages=pages)


class FanOut:
    """Let some clients send, in each turn, `burst` messages at once."""

    unit = "delivery"
    limits = Limits(**CALM)

    def __init__(self, title, *, clients, senders=1, burst=1, size=128, **settings):
        self.title = title
        self.count = clients
        self.messages = [
            [message(sender, number, size) for number in range(burst)] for sender in range(senders)
        ]
        self.filter = settings.get("filter", BroadcastMessagesFilter)
        self.request = settings.get("request", REQUEST)
        self.members = settings.get("members", clients)  # the first ones, of the only group

    @cached_property
    def units(self):
        return sum(len(self.expected(number)) for number in range(self.count))

    def expected(self, receiver):
        """Return the messages that the client with this number gets in one turn."""
        if self.filter is EchoFilter:
            return self.messages[receiver]
        if receiver >= self.members:
            return []
        return [
            message
            for sender, messages in enumerate(self.messages)
            for message in messages
            if sender != receiver
        ]

    def open(self, keep=0):
        """Connect all clients to a new server."""
        server, acceptor = start_server(self.filter, self.limits)
        self.clients = [Client(acceptor, self.request, keep) for _ in range(self.count)]
        for client in self.clients:
            client.written.clear()
        for client in self.clients[: self.members]:
            client.protocol.token = TOKEN
            server.storage_object.add(TOKEN, client.protocol.id)
        self.reads = [
            (client, b"".join(bytes(Frame.buildMessage(message)) for message in messages))
            for client, messages in zip(self.clients, self.messages, strict=False)
        ]

    def turn(self):
        for client, read in self.reads:
            client.send(read)

    def outcome(self, number, client):
        """Return what a client has got, and what it should have."""
        return client.messages(), self.expected(number) * CHECKED_TURNS


class SlowClients(FanOut):
    """Let all clients read too slowly, so that what is sent waits and pushes out what waited."""

    limits = Limits(slow_client="drop_oldest", queue_bytes=WAITING * (4 + 128 + OVERHEAD), **CALM)

    def open(self, keep=0):
        super().open(keep)
        for client in self.clients:
            client.protocol.pause_writing()
        users = self.clients[0].protocol.users
        for number in range(WAITING):
            users.broadcast(message(0, number, 128))
            users.flush()

    def outcome(self, number, client):
        client.protocol.resume_writing()
        before = [message(0, number, 128) for number in range(WAITING)]
        sent = before + self.expected(number) * CHECKED_TURNS
        return client.messages(), sent[-WAITING:]


class Handshakes:
    """Let clients connect, and go as soon as they are connected."""

    unit = "handshake"
    units = 100

    def __init__(self, title):
        self.title = title

    def open(self, keep=0):
        self.keep = keep
        self.clients = []
        _, self.acceptor = start_server(EchoFilter, Limits(**CALM))

    def turn(self):
        clients = [Client(self.acceptor, REQUEST, self.keep) for _ in range(self.units)]
        for client in clients:
            client.protocol.connection_lost(None)
        if self.keep is None:
            self.clients += clients

    def outcome(self, number, client):
        """Return the answer and how many clients are left, and which they should be."""
        answer = b"".join(client.written)
        left = self.acceptor.admission.count
        status = b"HTTP/1.1 101 Switching Protocols\r\n"
        is_right = answer.startswith(status) and ACCEPT in answer and answer.endswith(b"\r\n\r\n")
        return (is_right or answer, left), (True, 0)


def message(sender, number, size):
    """Return JSON, or the beginning of it, that is like no other."""
    record = f'{{"sender": {sender}, "number": {number}, "value": %d}}, '
    return "".join(record % value for value in range(size // len(record) + 1)).encode()[:size]


SCENARIOS = {
    "single": FanOut("1 message to 1,000 clients", clients=1000),
    "ten": FanOut("10 messages of 10 of 1,000 clients", clients=1000, senders=10),
    "sixty": FanOut("60 messages of 10 of 1,000 clients", clients=1000, senders=10, burst=6),
    "everybody": FanOut("1 message of each of 100 clients", clients=100, senders=100),
    "large": FanOut(
        "20 messages of 16 KiB of 10 of 100 clients",
        clients=100,
        senders=10,
        burst=2,
        size=16 * 1024,
    ),
    "group": FanOut(
        "1 message to the 50 of a group of 1,000 clients",
        clients=1000,
        members=50,
        filter=TokenMessageFilter,
    ),
    "loop": FanOut(
        "as ten, with a loop over users.items() and sendMessage",
        clients=1000,
        senders=10,
        filter=LoopFilter,
    ),
    "compressed": FanOut(
        "1 message of 1 KiB, compressed, to 1,000 clients",
        clients=1000,
        size=1024,
        request=REQUEST_TO_COMPRESS,
    ),
    "slow": SlowClients("1 message to the queues of 100 clients", clients=100),
    "echo": FanOut(
        "1 message in a read, back to each of 100 clients",
        clients=100,
        senders=100,
        filter=EchoFilter,
    ),
    "echo-burst": FanOut(
        "16 messages in a read, back to each of 100 clients",
        clients=100,
        senders=100,
        burst=16,
        filter=EchoFilter,
    ),
    "handshake": Handshakes("a request, 101, the connection open, then lost"),
}

if __name__ == "__main__":
    main()
