"""Measure what Redis costs: items to clients, their latency, two servers as one, and `get`.

The servers run on the first core; Redis, the publishers and the clients share the second.
"""

import argparse
import asyncio
import os
import select
import shutil
import socket
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from timeit import timeit
from uuid import uuid4

import redis
import uvloop
from harness import (
    CLIENT_CORE,
    SERVER_CORE,
    fws_server,
    pin,
    positive,
    raise_descriptor_limit,
    run_benchmark,
    server,
)

from filtered_websocket.storage_objects.redis import StorageObject

REDIS_SERVER = [
    *("redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
    *("--client-output-buffer-limit", "pubsub", "0", "0", "0"),  # redis-py alone may lag behind
]
PAYLOAD = b"x" * 128
FRAME = bytes([0x81, 126, 0, len(PAYLOAD)]) + PAYLOAD
MASKED_FRAME = bytes([0x81, 0x80 | 126, 0, len(PAYLOAD)]) + bytes(4) + PAYLOAD
JOIN = bytes([0x81, 0x80 | len(b"token:x")]) + bytes(4) + b"token:x"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

FEW, CROWD = 100, 1000  # clients
PUBLISHERS = 10  # of a group
RATE = 50  # items per second, for the latency
QUIET = 0.3  # seconds without a frame, after which none is under way
STALLED = 10  # seconds
GETS = 1_000_000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--time", type=float, default=3, help="seconds per figure (3)")
    parser.add_argument("-r", "--rounds", type=positive, default=3, help="runs of each (3)")
    options = parser.parse_args()
    if not shutil.which(REDIS_SERVER[0]):
        sys.exit(f"the benchmark needs {REDIS_SERVER[0]}")
    raise_descriptor_limit()
    with ExitStack() as running:
        race = RedisRace(running, options.time)
        rounds = []
        for turn in range(1, options.rounds + 1):
            print(f"round {turn} of {options.rounds}", file=sys.stderr)
            rounds.append([*race.items(), *race.latency(), *race.cluster(), get_seconds()])
    print_table(rounds)


class RedisRace:
    """Start Redis and all servers; `items`, `latency` and `cluster` measure them."""

    def __init__(self, running, seconds):
        start = running.enter_context
        self.seconds = seconds
        folder = start(TemporaryDirectory())
        redis_server = server(*REDIS_SERVER, "--dir", folder, "--port", core=CLIENT_CORE)
        _, self.redis_port = start(redis_server)
        self.redis = start(redis.Redis(host="127.0.0.1", port=self.redis_port))
        self.pubsub = start(broadcasting("broadcast_pubsub", self.redis_port))
        self.plain = start(broadcasting("broadcast_messages"))
        token = "broadcast_messages_by_token"
        self.both = [start(broadcasting(token, self.redis_port)) for _ in "AB"]
        self.alone = [start(broadcasting(token))]

    def items(self):
        """Return items per second, the server's CPU seconds per item, and those of redis-py."""
        pid, port = self.pubsub
        with Clients() as crowd:
            crowd.connect(port, FEW)
            rate, cpu = flood(crowd, self.publish, 500, FEW, [pid], self.seconds)
        return rate, cpu, self.redis_py_alone(int(rate * self.seconds))

    def redis_py_alone(self, count):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            cpu = process.submit(hear, self.redis_port, count, SERVER_CORE)
            while not cpu.done() and not self.redis.pubsub_numsub("alone")[0][1]:
                pass
            for _ in range(0, count, 500):
                self.publish(500, "alone")
            return cpu.result()

    def latency(self):
        """Return the 99th percentile with Redis in between, and without, in seconds."""
        with Clients() as crowd:
            crowd.connect(self.pubsub[1], CROWD)
            over_redis = p99(crowd, self.publish, CROWD, self.seconds)
        with Clients() as crowd:
            publish = publisher(crowd.connect(self.plain[1], 1 + CROWD)[:1])
            return over_redis, p99(crowd, publish, CROWD, self.seconds)

    def cluster(self):
        """Return the deliveries per CPU second of two servers together, and of one alone."""
        return self.per_cpu_second(self.both), self.per_cpu_second(self.alone)

    def per_cpu_second(self, servers):
        pids, ports = zip(*servers, strict=True)
        with Clients() as crowd:
            first, *_ = [crowd.connect(port, CROWD // len(ports), JOIN) for port in ports]
            publish = publisher(first[:PUBLISHERS])
            _, cpu = flood(crowd, publish, 30, CROWD - 1, pids, self.seconds)
        return (CROWD - 1) / cpu

    def publish(self, count, channel="broadcast_pubsub"):
        pipeline = self.redis.pipeline(transaction=False)
        for _ in range(count):
            pipeline.publish(channel, PAYLOAD)
        pipeline.execute()


def broadcasting(name, redis_port=None):
    options = ["-f", f"filtered_websocket.filters.{name}"]
    if redis_port is None:
        return server(*fws_server(*options))
    options += ["--redis_host", "127.0.0.1", "--redis_port", str(redis_port)]
    options += ["--redis_key", name, "--redis_channels", name]
    storage = "STORAGE_OBJECT_MODULE=filtered_websocket.storage_objects.redis"
    return server("env", storage, *fws_server(*options))


def publisher(connections):
    turns = cycle(connections)

    def publish(count):
        for _ in range(count):
            next(turns).sendall(MASKED_FRAME)

    return publish


class Clients(ExitStack):
    """Clients that only count what they get, since all of it has one size."""

    def __init__(self):
        super().__init__()
        self.delivered = 0
        self._received = 0
        self._sockets = {}
        self._epoll = self.enter_context(select.epoll())
        self._buffer = bytearray(1 << 20)

    def connect(self, port, count, first_frame=b""):
        """Connect `count` more, each of which sends `first_frame`; return their sockets."""
        before = len(self._sockets)
        for _ in range(count):
            connection = self.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(HANDSHAKE)
            answer = connection.recv(4096)
            if not (answer.startswith(b"HTTP/1.1 101") and answer.endswith(b"\r\n\r\n")):
                sys.exit(f"the server refused a client: {answer!r}")
            connection.sendall(first_frame)
            self._sockets[connection.fileno()] = connection
            self._epoll.register(connection, select.EPOLLIN)
        return list(self._sockets.values())[before:]

    def settle(self, publish, copies):
        """Publish until all `copies` of one message arrive, and count from then on."""
        deadline = time.monotonic() + STALLED
        while True:
            while self._read(QUIET):
                pass
            if self._received == copies * len(FRAME):
                break
            if time.monotonic() > deadline:
                sys.exit(f"a message brought {self._received} bytes, not {copies * len(FRAME)}")
            self._received = 0
            publish(1)
        self.delivered = self._received = 0

    def read_until(self, delivered):
        while self.delivered < delivered:
            if not self._read(STALLED):
                sys.exit(f"{self.delivered} messages, not {delivered}, were delivered")

    def _read(self, timeout):
        events = self._epoll.poll(timeout)
        for descriptor, _ in events:
            size = self._sockets[descriptor].recv_into(self._buffer)
            if not size:
                sys.exit("the server closed a connection")
            self._received += size
        self.delivered = self._received // len(FRAME)
        return events


def flood(clients, publish, burst, copies, pids, seconds):
    """Publish as fast as the clients get it; return messages per second, and CPU s per message.

    One to three bursts are under way, so that the servers never wait for the next one.
    """
    clients.settle(publish, copies)
    published, cpu, start = 0, cpu_seconds(pids), time.monotonic()
    while time.monotonic() < start + seconds:
        publish(burst)
        published += burst
        clients.read_until((published - 2 * burst) * copies)
    clients.read_until(published * copies)
    return published / (time.monotonic() - start), (cpu_seconds(pids) - cpu) / published


def p99(clients, publish, copies, seconds):
    """Return the 99th percentile of the seconds from publishing a message to its last copy."""
    clients.settle(publish, copies)
    latencies = []
    start = time.monotonic()
    for number in range(1, int(seconds * RATE) + 1):
        time.sleep(max(0, start + number / RATE - time.monotonic()))  # noqa: TID251 (no event loop)
        sent = time.monotonic()
        publish(1)
        clients.read_until(number * copies)
        latencies.append(time.monotonic() - sent)
    return quantiles(latencies, n=100, method="inclusive")[98]


def hear(redis_port, count, core):
    """Hear `count` items with redis-py and nothing else; return the CPU seconds of one."""

    async def listen():
        async with redis.asyncio.Redis(host="127.0.0.1", port=redis_port, protocol=3) as client:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("alone")
                left, start = count, time.process_time()
                async for item in pubsub.listen():
                    left -= item["type"] == "message"
                    if not left:
                        return (time.process_time() - start) / count

    pin(core)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(listen())


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return ticks / os.sysconf("SC_CLK_TCK")


def get_seconds():
    storage = StorageObject(StorageObject.parser(argparse.ArgumentParser()).parse_args([]))
    storage.add("group", uuid4())
    return timeit("storage.get('group')", globals={"storage": storage}, number=GETS) / GETS


def print_table(rounds):
    medians = (median(figures) for figures in zip(*rounds, strict=True))
    rate, cpu, alone, over_redis, without, both, one, get = medians
    table = (
        ("Redis to 100 clients, 128 bytes: items/s", f"{rate:,.0f}", "at least 20,000"),
        ("  deliveries/s", f"{rate * FEW:,.0f}", "at least 2,000,000"),
        ("  the server's core was busy", f"{rate * cpu:.0%}", ""),
        ("  CPU µs per item", f"{cpu * 1e6:.2f}", ""),
        ("  CPU µs per delivery", f"{cpu / FEW * 1e6:.3f}", ""),
        ("  CPU µs per item of redis-py alone", f"{alone * 1e6:.2f}", ""),
        ("  share of redis-py", f"{alone / cpu:.0%}", ""),
        ("Redis to the last of 1,000 clients, 50 items/s: p99 ms", f"{over_redis * 1e3:.2f}", ""),
        ("  a client to the last of 1,000, without Redis: p99 ms", f"{without * 1e3:.2f}", ""),
        ("  ratio", f"{over_redis / without:.2f}", "at most 1.5"),
        ("a group of 1,000 on two servers: deliveries per CPU s", f"{both:,.0f}", ""),
        ("  on one server, without Redis", f"{one:,.0f}", ""),
        ("  ratio", f"{both / one:.2f}", "at least 0.6"),
        ("storage.get: ns", f"{get * 1e9:.0f}", "below 1,000"),
    )
    print(f"\n{'':56}{'median':>12}  target")
    for what, figure, target in table:
        print(f"{what:56}{figure:>12}  {target}".rstrip())


if __name__ == "__main__":
    run_benchmark(main)
