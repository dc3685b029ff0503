"""Clients over TLS, which `wsload` cannot be: a closed loop, one message per publisher in flight.

They are Python, and far slower than the servers. So only what a delivery costs the server counts.
"""

import select
import socket
import ssl
import sys
import time
from contextlib import ExitStack

from harness import cpu_seconds

SIZE = 128  # bytes of payload
HEAD = bytes([0x81, 126, 0, SIZE])
MASKED_HEAD = bytes([0x81, 0x80 | 126, 0, SIZE]) + bytes(4)
FRAME = len(HEAD) + SIZE
PING, PONG = bytes([0x89, 0]), bytes([0x8A, 0x80, 0, 0, 0, 0])
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
WARM_UP = 1.0  # seconds
STALLED = 5.0  # seconds
RECORD = 16384  # the most that one read brings: level-triggered epoll tells of the next record


class Client:
    """One connection; it checks that each publisher's messages come once, and in order."""

    def __init__(self, connection, publishers):
        self.connection = connection
        self._numbers = [0] * publishers  # of the message that has to come next
        self._rest = b""

    def read(self):
        """Return the publishers of the messages that have come."""
        try:
            record = self.connection.recv(RECORD)
        except ssl.SSLWantReadError:  # a session ticket, or a part of a record
            return []
        if not record:
            sys.exit("the server closed a connection")
        data = self._rest + record
        publishers = []
        while len(data) >= FRAME or data == PING:
            if data.startswith(PING):
                self.connection.send(PONG)
                data = data[len(PING) :]
            else:
                publishers.append(self._check(data[:FRAME]))
                data = data[FRAME:]
        self._rest = data
        return publishers

    def _check(self, frame):
        publisher, number = int(frame[4:8]), int(frame[8:20])
        if not frame.startswith(HEAD) or number != self._numbers[publisher]:
            sys.exit(f"{frame[:20]} came, not message {self._numbers[publisher]}")
        self._numbers[publisher] += 1
        return publisher


def cpu_per_delivery(pid, port, count, publishers, seconds):
    """Return the server's CPU time for one delivery in µs; `publishers` of the clients publish."""
    with ExitStack() as stack, stack.enter_context(select.epoll()) as epoll:
        clients = {}
        for _ in range(count):
            connection = stack.enter_context(connected(port))
            epoll.register(connection, select.EPOLLIN)
            clients[connection.fileno()] = Client(connection, publishers)
        loop = ClosedLoop(epoll, clients, publishers)
        loop.run(WARM_UP)
        delivered, cpu = loop.delivered, cpu_seconds(pid)
        loop.run(seconds)
        cpu = cpu_seconds(pid) - cpu
        delivered = loop.delivered - delivered
        loop.finish()
    return cpu / delivered * 1e6


class ClosedLoop:
    """Let a publisher send its next message when all others have its last one."""

    def __init__(self, epoll, clients, publishers):
        self.delivered = 0
        self._epoll, self._clients = epoll, clients
        self._publishers = list(clients.values())[:publishers]
        self._missing = [0] * publishers  # clients that wait for the message of this publisher
        self._published = [0] * publishers

    def run(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for publisher, missing in enumerate(self._missing):
                if not missing:
                    self._publish(publisher)
            self._read()

    def finish(self):
        """Read until nothing is missing."""
        while any(self._missing):
            self._read()

    def _publish(self, publisher):
        payload = b"%04d%012d" % (publisher, self._published[publisher])
        connection = self._publishers[publisher].connection
        connection.send(MASKED_HEAD + payload.ljust(SIZE, b"x"))
        self._published[publisher] += 1
        self._missing[publisher] = len(self._clients) - 1

    def _read(self):
        events = self._epoll.poll(STALLED)
        if not events:
            sys.exit(f"nothing came for {STALLED} seconds: messages were lost")
        for descriptor, _ in events:
            for publisher in self._clients[descriptor].read():
                self._missing[publisher] -= 1
                self.delivered += 1


def connected(port):
    """Return a connection after its handshakes, which does not block any more."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port), STALLED))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HANDSHAKE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        part = connection.recv(1)  # no more: what follows is a message
        if not part:
            sys.exit(f"the server refused a client: {answer!r}")
        answer += part
    connection.setblocking(False)
    return connection
