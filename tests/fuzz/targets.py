"""What is done with an input, and what has to hold.

An input of a target that is about a stream begins with five bytes: which options the server has,
and four sizes of chunks, taken in turn, in which the rest of the input arrives. An oracle is an
`assert`; an exception of any kind is a finding.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, cycle, islice
from typing import Any

from filtered_websocket.addresses import parse_address
from filtered_websocket.filters.base import (
    Chain,
    FilterBase,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.frames import CLOSE, PING, PONG, TEXT, deflate_frame, encode_frame
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.server_protocol.deflate import Inflater, negotiate
from filtered_websocket.server_protocol.exception import ProtocolError, WireError
from filtered_websocket.server_protocol.forwarded import TrustedProxies
from filtered_websocket.server_protocol.frame import Frame
from filtered_websocket.server_protocol.handshake import Acceptor
from filtered_websocket.server_protocol.http import PlainPages
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.origins import OriginPolicy
from filtered_websocket.server_protocol.parser import SPARES
from filtered_websocket.server_protocol.request import (
    accept_response,
    asks_for_websocket,
    check_upgrade,
    parse_request,
)
from filtered_websocket.typing import Message, RejectHandshake, Request

from ..integration.wire import frame
from .virtual import Socket, VirtualLoop

POLICIES = ("close", "drop_oldest", "drop_newest")
PLENTY = 1 << 30
MANY_CHUNKS = 600  # more would only take longer
CLIENT, PROXY = "203.0.113.9", "192.0.2.1"


def chunks_of(stream: bytes, sizes: bytes) -> Iterator[bytes]:
    """Cut `stream`; sizes from 128 on are multiples of 64, and 0 is all that is left."""
    start = 0
    for size in chain(islice(cycle(sizes), MANY_CHUNKS), b"\0"):
        if start >= len(stream):
            return
        length = (size if size < 128 else (size - 127) * 64) or len(stream)
        yield stream[start : start + length]
        start += length


# A server of the real parts, with filters that keep what they get


async def _echo_later(connection: Any, msg: Message) -> None:
    await asyncio.sleep(0)
    _echo(connection, msg)


def _echo(connection: Any, msg: Message) -> None:
    connection.factory.events.append((bytes(msg), msg.is_binary))
    if msg.startswith(b"all"):
        connection.users.broadcast(msg)
    else:
        connection.sendMessage(msg)
    if msg == b"bye":
        connection.loseConnection(4000)
    elif msg == b"cut":
        connection.abortConnection()


def _note_the_end(connection: Any, data: None) -> None:
    connection.factory.events.append("disconnect")


def _decide(connection: Any, request: Request) -> None:
    assert request.path is not None and request.query is not None and request.cookies is not None
    connection.sendMessage("welcome")
    if request.subprotocols:
        connection.subprotocol = request.subprotocols[0]
    if request.path == "/no":
        raise RejectHandshake(403, request.target)


async def _decide_later(connection: Any, request: Request) -> None:
    await asyncio.sleep(0)
    _decide(connection, request)


def _chain(base: type[FilterBase], body: Callable[[Any, Any], Any]) -> Chain:
    """Return a chain of this filter alone, which is registered nowhere."""
    registered, base._filters = base._filters, []
    type("Fuzzed", (base,), {"filter": staticmethod(body)})
    chain, base._filters, base._frozen = Chain(base), registered, None
    return chain


ECHO = _chain(WebSocketMessageFilter, _echo), _chain(WebSocketMessageFilter, _echo_later)
DECIDE = _chain(WebSocketHandshakeFilter, _decide), _chain(WebSocketHandshakeFilter, _decide_later)
NOTE_THE_END = _chain(WebSocketDisconnectFilter, _note_the_end)


class Server:
    """One server, whose clients speak one after the other."""

    def __init__(self, limits: Limits, *, compresses: bool, is_async: bool) -> None:
        self.loop: VirtualLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        self.factory: Any = FilteredWebSocketFactory(
            limits=limits, compress_from=16 if compresses else None
        )
        self.factory.events = []
        self.factory.message_chain = ECHO[is_async]
        self.factory.handshake_chain = DECIDE[is_async]
        self.factory.disconnect_chain = NOTE_THE_END
        self.acceptor = Acceptor(
            self.factory,
            limits=limits,
            origins=OriginPolicy(None, loopback_only=False),
            pages=PAGES,
            proxies=TrustedProxies([PROXY]),
        )

    def accept(self, **options: Any) -> Socket:
        """Return the socket of a client whose handshake begins."""
        socket = Socket(self.loop, **{"room": PLENTY} | options)
        socket.set_protocol(self.acceptor())
        socket.protocol.connection_made(socket)
        return socket

    def open(self, window_bits: int, **options: Any) -> Socket:
        """Return the socket of a client whose handshake is done."""
        socket = Socket(self.loop, **{"room": PLENTY} | options)
        connection = self.factory.buildProtocol(PROXY)
        connection.window_bits = window_bits
        socket.set_protocol(connection)
        connection.open(socket)
        return socket

    def end(self, socket: Socket) -> list[Any]:
        """Let the client go; return what the filters got, once nothing of it is left."""
        self.loop.settle()
        socket.close()
        self.loop.run_out()
        self.loop.check()
        assert not self.factory.users and not self.factory._tasks and not self.factory.leaving
        assert len(self.factory.parsers._spares) <= SPARES
        assert self.acceptor.counters.sockets == 0 and not self.acceptor._deadlines
        assert self.acceptor.admission.count == 0 and not self.acceptor.admission.count_by_address
        users = self.factory.users
        assert not (users._apart or users._shared or users._windows or users._size)
        events, self.factory.events = self.factory.events, []
        return events  # type: ignore[no-any-return]

    def check_that_the_next_is_served(self) -> None:
        """Raise AssertionError when what a client did can be felt by the one after it."""
        socket = self.open(0)
        socket.receive(frame(TEXT, b"hello"))
        assert self.end(socket) == [(b"hello", False), "disconnect"]
        assert socket.written == encode_frame("hello", False)


PAGES = PlainPages(console=False)


def sent_frames(data: bytes, window_bits: int) -> list[tuple[int, bytes]]:
    """Return opcodes and payloads of what a server wrote, all of it whole and valid frames."""
    frames: list[tuple[int, bytes]] = []
    while data:
        assert CLOSE not in dict(frames), "something follows a close frame"
        parsed = Frame(data)
        payload, is_compressed = bytes(parsed.msg), bool(data[0] & 0x40)
        assert parsed.fin and not parsed.mask and not data[0] & 0x30
        if is_compressed:
            assert window_bits
            payload = inflated_by_client(payload, window_bits)
        if parsed.opcode >= CLOSE:
            assert parsed.opcode in (CLOSE, PING, PONG)
            assert len(payload) <= 125 and not is_compressed
        if parsed.opcode == TEXT:
            payload.decode()
        if parsed.opcode == CLOSE:
            code = int.from_bytes(payload[:2])
            assert 1000 <= code < 1004 or 1007 <= code < 1015 or 3000 <= code < 5000
            payload[2:].decode()
        frames.append((parsed.opcode, payload))
        data = data[parsed.length() :]
    return frames


def inflated_by_client(payload: bytes, window_bits: int) -> bytes:
    """Return a message, inflated within this window."""
    message, rest, decoder = b"", payload + b"\0\0\xff\xff", zlib.decompressobj(-window_bits)
    while rest:  # a few bytes at a time, else zlib looks back in what it returns
        message += decoder.decompress(rest, 200)
        rest = decoder.unconsumed_tail
    return message


# Streams


def frames(data: bytes) -> None:
    """Frames on an open connection."""
    config, sizes, stream = (data[:1] or b"\0")[0], data[1:5], data[5:]
    window_bits, is_async, is_slow = (config & 1) * 15, bool(config & 2), bool(config & 4)
    limits = Limits(
        message_size=(100, 1000, 5000, 70_000)[config >> 3 & 3],
        queue_bytes=1000,
        slow_client=POLICIES[(config >> 5) % 3],
        backlog=4,
        ping_interval=0,
    )
    server = Server(limits, compresses=bool(window_bits), is_async=is_async)

    def converse(chunks: Iterator[bytes]) -> tuple[list[Any], list[tuple[int, bytes]]]:
        socket = server.open(window_bits, room=100 if is_slow else PLENTY)
        connection = socket.protocol
        for chunk in chunks:
            socket.receive(chunk)
            check_memory(connection, limits)
            server.loop.settle()
        socket.read_all()
        events = server.end(socket)
        assert events.count("disconnect") == 1 and events[-1] == "disconnect"
        written = sent_frames(socket.written, window_bits)
        delivered = [msg for msg in events if msg != "disconnect"]
        assert all(len(msg) <= limits.message_size for msg, _ in delivered)
        echoed = [(payload, opcode != TEXT) for opcode, payload in written if opcode < CLOSE]
        if is_slow:
            rest = iter(delivered)
            assert all(msg in rest for msg in echoed), "dropped, but never in another order"
        else:
            assert echoed == delivered[: len(echoed)]
        if not is_slow and not is_async and not socket.aborted:
            assert echoed == delivered
        return events, written

    whole, pieces = converse(iter([stream])), converse(chunks_of(stream, sizes))
    if not is_async and not is_slow:
        assert pieces == whole
    elif not is_slow:
        # A filter that closes does so behind what has been read until then.
        delivered = [events[:-1] for events in (pieces[0], whole[0])]
        ends = {(b"bye", False), (b"bye", True), (b"cut", False), (b"cut", True)}
        shorter, longer = sorted(delivered, key=len)
        assert longer[: len(shorter)] == shorter
        assert shorter == longer or ends & set(shorter)
    server.check_that_the_next_is_served()


def check_memory(connection: FilteredWebSocket, limits: Limits) -> None:
    """Raise AssertionError when more is kept for a connection than its limits allow."""
    fragments = connection._fragments
    assert fragments is None or len(fragments.message) <= limits.message_size
    waiting = connection._waiting or ()
    assert len(waiting) <= 1 or sum(map(len, waiting)) <= limits.queue_bytes
    jobs = connection._jobs or ()
    # What one read held is delivered before reading pauses.
    assert sum(len(msg or b"") for _, msg in jobs) <= limits.message_size + 64 * 1024


_answer = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n:]+: [^\r\n]*\r\n)*)\r\n").match


def handshake(data: bytes) -> None:
    """All that a client sends, from its first byte on."""
    config, sizes, stream = (data[:1] or b"\0")[0], data[1:5], data[5:]
    is_async, has_eof, hangs_up = bool(config & 2), bool(config & 4), bool(config & 8)
    limits = Limits(
        message_size=1000,
        header_size=500,
        ping_interval=0,
        connections=0 if config & 16 else 1,
        connections_per_address=1,
    )
    server = Server(limits, compresses=bool(config & 1), is_async=is_async)
    peer = "" if config & 32 else (PROXY if config & 64 else "2001:db8::1", 5000)

    def converse(chunks: Iterator[bytes]) -> tuple[list[Any], bytes, Any]:
        socket = server.accept(peer=peer, has_eof=has_eof)
        first = socket.protocol
        for chunk in chunks:
            socket.receive(chunk)
            assert len(first._head) <= limits.header_size + len(chunk)
            assert server.acceptor.admission.count <= 1
            server.loop.settle()
        server.loop.settle()
        if not hangs_up:
            was_open = getattr(socket.protocol, "is_open", False)
            server.loop.run_out()  # the time limit is one for handshakes
            assert getattr(socket.protocol, "is_open", False) == was_open
        events = server.end(socket)
        return events, socket.written, check_answer(socket.written)

    whole, pieces = converse(iter([stream])), converse(chunks_of(stream, sizes))
    assert pieces[2] == whole[2] and pieces[0] == whole[0]
    if not is_async:
        assert pieces[1] == whole[1]
    server.check_that_the_next_is_served()


def check_answer(written: bytes) -> tuple[int, bytes] | None:
    """Return status and head of the only answer, whose body or frames are whole and valid."""
    if not written:
        return None
    match = _answer(written)
    assert match is not None, written
    status, rest = int(match[1]), written[match.end() :]
    headers = {
        name.lower(): value
        for name, _, value in (line.partition(b": ") for line in match[2].splitlines())
    }
    assert len(headers) == match[2].count(b"\r\n"), "a header is repeated"
    if status == 101:
        window = 15 if b"sec-websocket-extensions" in headers else 0
        sent = sent_frames(rest, window)
        assert sent[:1] == [(TEXT, b"welcome")]
    else:
        assert headers[b"connection"].endswith(b"close")
        assert int(headers[b"content-length"]) == len(rest) or not rest
    return status, match[0]


# Pure functions


def request(data: bytes) -> None:
    """The head of one request."""
    try:
        parsed = parse_request(data, PROXY)
    except ProtocolError as error:
        assert 400 <= error.status < 600
        return
    assert parsed.target.startswith("/") or parsed.target == "*"
    assert not re.search(r"[\x00-\x20\x7f]", parsed.method + parsed.target)
    assert isinstance(parsed.path, str) and parsed.query is not None
    assert all(name == name.strip() for name in parsed.subprotocols) and parsed.cookies is not None
    for name, value in parsed.headers.items():
        assert re.fullmatch(r"[!-9;-~]+", name) and value == value.strip("\t ")
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value)
    # Written down again, with names in another case, it is the same request.
    version = "1.1" if len(parsed.headers.getall("Host", [])) == 1 else "1.0"
    lines = [f"{parsed.method} {parsed.target} HTTP/{version}"]
    lines += [f"{name.swapcase()}:{value}" for name, value in parsed.headers.items()]
    again = parse_request("\r\n".join(lines).encode("latin-1"), PROXY)
    assert (again.method, again.target) == (parsed.method, parsed.target)
    assert again.headers == parsed.headers
    assert _verdict(again) == _verdict(parsed)


def _verdict(parsed: Request) -> tuple[bool, Any]:
    try:
        check_upgrade(parsed)
        offers = parsed.headers.getall("Sec-WebSocket-Extensions", [])
        accepted = negotiate(offers)
    except ProtocolError as error:
        return asks_for_websocket(parsed), error.status
    fields = {} if accepted is None else {"Sec-WebSocket-Extensions": accepted[0]}
    assert accepted is None or 9 <= accepted[1] <= 15
    answer = accept_response(parsed, fields)
    match = _answer(answer)
    assert match is not None and match[1] == b"101" and match.end() == len(answer)
    return asks_for_websocket(parsed), answer


def inflate(data: bytes) -> None:
    """The payloads of one compressed message: which cut they have does not matter."""
    limit, sizes, payload = (data[:1] or b"\0")[0] * 1024, data[1:5], data[5:]
    pieces = [*chunks_of(payload, sizes)] or [b""]
    whole, parts = _inflated([payload], limit), _inflated(pieces, limit)
    if not {1008} & {whole, parts}:  # that limit is one on each frame
        assert whole == parts or (isinstance(whole, int) and isinstance(parts, int))
    if isinstance(whole, bytes):
        assert whole == _inflated_at_once(payload)


def _inflated(payloads: list[bytes], limit: int) -> bytes | int:
    """Return the message, or the close code."""
    message = bytearray()
    inflater = Inflater(message, limit)
    try:
        for number, payload in enumerate(payloads, 1):
            inflater.inflate(payload, fin=number == len(payloads))
    except WireError as error:
        assert error.code in (1002, 1008, 1009)
        assert len(message) <= limit + 1
        return error.code
    assert len(message) <= limit and inflater._decoder is None
    return bytes(message)


def _inflated_at_once(payload: bytes) -> bytes:
    message, payload = b"", payload + b"\0\0\xff\xff"
    while payload and payload != b"\0\0\xff\xff":
        decoder = zlib.decompressobj(-15)
        message += decoder.decompress(payload)
        payload = decoder.unused_data
    return message


def deflate(data: bytes) -> None:
    """A message that is sent: compressed, it is shorter, and the same."""
    config, payload = (data[:1] or b"\0")[0], data[1:]
    window_bits = 9 + (config & 7) % 7
    plain = encode_frame(payload, bool(config & 8))
    compressed = deflate_frame(plain, window_bits)
    assert sent_frames(compressed, window_bits) == sent_frames(plain, 0)
    if compressed is plain:
        return
    assert len(compressed) < len(plain)
    assert _inflated([bytes(Frame(compressed).msg)], len(payload)) == payload


def forwarded(data: bytes) -> None:
    """What anybody may write into the headers of proxies: a line each, Forwarded after an `f`."""
    lines = data.decode("latin-1").splitlines()
    names = {True: "Forwarded", False: "X-Forwarded-For"}
    headers = [(names[line[:1] == "f"], line[1:]) for line in lines]
    proxies = TrustedProxies([PROXY, "10.0.0.0/8", "2001:db8:1::/48", "unix"])

    def client(peer: str, *more: tuple[str, str]) -> str:
        return proxies.client(peer, Request("GET", "/", [*headers, *more]).headers)

    assert client("198.51.100.7") == "198.51.100.7", "an untrusted peer is believed"
    for peer in (PROXY, ""):
        with suppress(ProtocolError):
            found = client(peer)
            assert found == peer or str(parse_address(found)) == found
    # Whoever calls a trusted proxy is who the proxy says, whatever they have sent themselves.
    used = {name for name, _ in headers}
    for name, added in (("X-Forwarded-For", CLIENT), ("Forwarded", f'for="{CLIENT}:80"')):
        if used <= {name}:
            with suppress(ProtocolError):
                assert client(PROXY, (name, added)) == CLIENT
            joined = ",".join([value for _, value in headers] + [f" {added}"])
            with suppress(ProtocolError):
                request = Request("GET", "/", [(name, joined)])
                assert proxies.client(PROXY, request.headers) == CLIENT


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (handshake, request, frames, inflate, deflate, forwarded)
}
