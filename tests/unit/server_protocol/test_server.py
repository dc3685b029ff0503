"""One connection on the wire."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picows import WSMsgType

from filtered_websocket.frames import encode_close, encode_frame
from filtered_websocket.server_protocol.frame import Frame
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.typing import Message

from ...integration import wire
from ..conftest import idle
from .fakes import FakeFrame
from .recorder import Recorder, slow, text
from .test_deflate import compress
from .test_parser import cut

CONTINUATION, TEXT, BINARY = WSMsgType.CONTINUATION, WSMsgType.TEXT, WSMsgType.BINARY
PING, PONG, CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE


# Frames to messages


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_whole_message(opcode: WSMsgType) -> None:
    """A message is what it was, with its type."""
    connection = Recorder().open().take(FakeFrame("żółw".encode(), opcode))
    assert connection.events == ["connect", ("żółw".encode(), opcode is BINARY)]


@given(
    st.binary(max_size=40) | st.text(max_size=20),
    st.lists(st.integers(0, 40)),
)
def test_a_message_in_fragments(data: bytes | str, cuts: list[int]) -> None:
    """However a message is cut, within characters too, it arrives whole, with pings in between."""
    opcode, raw = (BINARY, data) if isinstance(data, bytes) else (TEXT, data.encode())
    ends = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    parts = [raw[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    connection = Recorder().open()
    for number, part in enumerate(parts):
        kind = opcode if number == 0 else CONTINUATION
        connection.take(FakeFrame(part, kind, fin=number == len(parts) - 1))
        connection.take(FakeFrame(b"", PING), FakeFrame(b"", PONG))
    assert connection.events == ["connect", (raw, opcode is BINARY)]
    assert connection.socket.close_codes == []


START = FakeFrame(b"ab", TEXT, fin=False)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([FakeFrame(b"a", rsv1=True)], 1002),
        ([FakeFrame(b"a", PING, rsv2=True)], 1002),
        ([FakeFrame(b"a", BINARY, rsv3=True)], 1002),
        ([FakeFrame(b"a", CONTINUATION)], 1002),
        ([START, FakeFrame(b"c", TEXT)], 1002),
        ([START, FakeFrame(b"c", BINARY, fin=False)], 1002),
        ([FakeFrame(b"\xff", TEXT)], 1007),
        ([FakeFrame(b"\xed\xa0\x80", TEXT)], 1007),
        ([FakeFrame(b"\xff", TEXT, fin=False)], 1007),
        ([START, FakeFrame(b"\xf0\x9f", CONTINUATION, fin=True)], 1007),
        ([START, FakeFrame(b"\xf0\x9f", CONTINUATION, fin=False)], None),
        ([FakeFrame(b"a" * 60, BINARY, fin=False), FakeFrame(b"a" * 41, CONTINUATION)], 1009),
        ([FakeFrame(b"\xff" * 60, BINARY, fin=False)], None),
    ],
)
async def test_what_breaks_the_protocol(frames: list[FakeFrame], code: int | None) -> None:
    """A mistake closes the connection with its code, once, and nothing of it is a message."""
    connection = Recorder(Limits(message_size=100)).open().take(*frames, FakeFrame(b"ab"))
    assert connection.socket.close_codes == ([code] if code else [1002])
    assert connection.events == ["connect", "disconnect"]


async def test_the_next_message_begins_anew() -> None:
    """After a fragmented message of one type, one of the other is itself again."""
    frames = [START, FakeFrame(b"c", CONTINUATION)]
    frames += [FakeFrame(b"\xff", BINARY, fin=False), FakeFrame(b"\xff", CONTINUATION)]
    connection = Recorder().open().take(*frames, FakeFrame(b"d"))
    assert connection.events[1:] == [(b"abc", False), (b"\xff\xff", True), (b"d", False)]


async def test_pings_are_answered() -> None:
    """A pong carries the ping's payload; an unasked pong is nothing."""
    connection = Recorder().open().take(FakeFrame(b"a", PING), FakeFrame(b"b", PONG))
    assert connection.socket.frames == [(PONG.value, b"a")]


# Bytes to messages


def client_frame(
    opcode: int, payload: bytes, key: bytes = bytes(4), *, fin: bool = True, rsv: int = 0
) -> bytes:
    """Return a frame, masked with `key`."""
    whole = wire.frame(opcode, bytes(Frame.encodeMessage(payload, key)), fin=fin, rsv=rsv)
    start = len(whole) - len(payload)
    return whole[: start - 4] + key + whole[start:]


def converse(*chunks: bytes) -> Recorder:
    """Return a connection, open for compression, after its peer has sent these chunks."""

    async def main() -> Recorder:
        connection = Recorder(Limits(message_size=20_000))
        connection.window_bits = 15
        connection.open()
        for chunk in chunks:
            if not connection.socket.closed:
                connection.receive(memoryview(chunk))
                for _ in range(10_000):  # a slow machine: what is left waits for its turn
                    if not connection.is_held:
                        break
                    await idle()
                connection.users.flush()  # type: ignore[attr-defined]
        return connection

    return asyncio.run(main())


keys = st.binary(min_size=4, max_size=4)
# From 4096 bytes on the buffer of a parser grows.
payloads = st.builds(bytes.__mul__, st.binary(max_size=100), st.sampled_from([1, 1, 2, 90, 300]))
opcodes = st.sampled_from([CONTINUATION, TEXT, BINARY, PING, PONG, CLOSE]).map(int)
any_frames = st.builds(
    client_frame,
    st.integers(0, 15) | opcodes,
    payloads | payloads.map(compress) | st.text(max_size=40).map(str.encode),
    keys,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 4, 1]),
)
places = st.lists(st.integers(0), max_size=8)
Conversation = tuple[list[bytes], list[Any], list[bytes]]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Return frames of messages, with pings among them; the messages; the payloads of the pings."""
    frames, messages, pings = [], [], []
    for _ in range(draw(st.integers(0, 4))):
        is_binary, is_compressed = draw(st.booleans()), draw(st.booleans())
        message = draw(payloads if is_binary else st.text(max_size=50).map(str.encode))
        messages.append((message, is_binary))
        parts = cut(compress(message) if is_compressed else message, draw(places)) or [b""]
        for number, part in enumerate(parts):
            opcode = CONTINUATION if number else BINARY if is_binary else TEXT
            rsv = 4 if is_compressed and not number else 0
            fin = number == len(parts) - 1
            frames.append(client_frame(opcode, part, draw(keys), fin=fin, rsv=rsv))
            for payload in draw(st.lists(st.binary(max_size=125), max_size=2)):
                pings.append(payload)
                frames.append(client_frame(PING, payload, draw(keys)))
                frames.append(client_frame(PONG, payload, draw(keys)))
    return frames, messages, pings


@pytest.mark.slow
@given(conversations(), st.lists(any_frames | st.binary(max_size=30), max_size=4), places)
def test_where_a_stream_is_cut_does_not_matter(
    conversation: Conversation,
    rubbish: list[bytes],
    places: list[int],
) -> None:
    """Whatever bytes come, cut or not: nothing is raised, the same is delivered and answered."""
    stream = b"".join(conversation[0] + rubbish)
    whole, pieces = converse(stream), converse(*cut(stream, places))
    assert pieces.events == whole.events
    assert vars(pieces.socket) == vars(whole.socket)
    opcodes = [opcode for opcode, _ in whole.socket.frames]
    assert CLOSE not in opcodes[:-1]
    assert 1011 not in whole.socket.close_codes


@pytest.mark.slow
@given(conversations(), places, st.sampled_from([1000, 1001, 4999]))
def test_a_conversation_is_delivered_exactly(
    conversation: Conversation, places: list[int], code: int
) -> None:
    """Each message comes whole, once, in order, however it travels; then the connection closes."""
    frames, messages, pings = conversation
    connection = converse(*cut(b"".join(frames) + wire.close_frame(code), places))
    assert connection.events == ["connect", *messages, "disconnect"]
    pongs = [(PONG.value, payload) for payload in pings]
    assert connection.socket.frames == [*pongs, (CLOSE.value, code.to_bytes(2))]
    assert connection.socket.closed


# Messages to frames


async def test_what_is_sent_leaves_in_order() -> None:
    """Each kind of message goes out as a frame of its type."""
    binary = Message(b"b")
    binary.is_binary = True
    connection = Recorder().open().send("a", binary, b"c", bytearray(b"\xff"))
    frames = [("a", False), (b"b", True), (b"c", False), (b"\xff", True)]
    assert connection.socket.written == b"".join(encode_frame(*frame) for frame in frames)


async def test_what_is_sent_early_waits_for_the_handshake() -> None:
    """A handshake filter may send: its messages are the first that the client gets."""
    connection = Recorder()
    connection.sendMessage("one")
    connection.sendMessage(b"two")
    assert connection.open().send("three").socket.written == text("one", "two", "three")


async def test_early_messages_are_bounded() -> None:
    """More than a slow client may have waiting is an error of the filter."""
    connection = Recorder(Limits(queue_bytes=5))
    connection.sendMessage("12345")
    with pytest.raises(BufferError):
        connection.sendMessage("6")


@pytest.mark.parametrize("state", ["early", "open", "closed"])
async def test_what_cannot_be_sent(state: str) -> None:
    """A wrong type raises TypeError, whatever the connection's state is."""
    connection = Recorder()
    if state != "early":
        connection.open()
    if state == "closed":
        connection.loseConnection()
    with pytest.raises(TypeError, match="not int"):
        connection.sendMessage(5)  # type: ignore[arg-type]


async def test_sending_to_a_closed_connection_costs_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first message that is dropped is logged with the caller's line; nothing is raised."""
    connection = Recorder().open()
    connection.loseConnection()
    frame = inspect.currentframe()
    assert frame is not None
    connection.sendMessage("one"), connection.sendMessage("two")
    line = frame.f_lineno - 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "is closed: a message to it was dropped" in record.getMessage()
    assert vars(record)["connection"] is connection
    assert f"{__file__}, line {line}" in record.getMessage()
    assert connection.socket.written == encode_close(1000)


# Closing


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1000),
        (b"\x03", 1002),
        *((code.to_bytes(2), code) for code in (1000, 1001, 1003, 1007, 1014, 3000, 4999)),
        *((code.to_bytes(2), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
        ((1001).to_bytes(2) + b"bye", 1001),
    ],
)
async def test_a_close_frame_is_answered(payload: bytes, code: int) -> None:
    """The peer gets its code back, or 1002 for one that it must not send, and that is the end."""
    connection = Recorder().open().take(FakeFrame(payload, CLOSE), FakeFrame(b"late"))
    assert connection.socket.close_codes == [code]
    assert connection.socket.closed
    assert connection.events == ["connect", "disconnect"]
    assert not connection.users


async def test_what_was_sent_leaves_before_the_close() -> None:
    """Closing loses nothing, and happens once, however often it is asked for."""
    connection = Recorder().open()
    connection.sendMessage("last words")
    connection.loseConnection(4000, "enough")
    connection.loseConnection(4001)
    assert connection.socket.written == text("last words") + encode_close(4000, "enough")
    assert connection.events == ["connect", "disconnect"]
    assert not connection.users


async def test_after_a_close_only_its_answer_counts() -> None:
    """Messages that were on their way are ignored; the peer's close frame ends it."""
    connection = Recorder().open()
    connection.loseConnection()
    connection.take(FakeFrame(b"late"), FakeFrame(b"a", PING))
    assert not connection.socket.closed
    connection.take(FakeFrame(b"", CLOSE))
    assert connection.socket.closed
    assert connection.socket.frames == [(CLOSE.value, (1000).to_bytes(2))]
    assert connection.events == ["connect", "disconnect"]


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (999, ""), (5000, ""), (1000, "a" * 124), (1000, "ż" * 62)]
)
async def test_a_close_that_no_frame_can_carry(code: int, reason: str) -> None:
    """It is a ValueError, and the connection stays open."""
    connection = Recorder().open()
    with pytest.raises(ValueError, match=str(code)):
        connection.loseConnection(code, reason)
    assert connection.send("still there").socket.written == text("still there")


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_does_not_answer_a_close_is_cut_off(leaves: bool) -> None:
    """After the time limit the socket is aborted, unless the peer has gone by then."""
    connection = Recorder(Limits(close_timeout=0)).open()
    connection.loseConnection()
    if leaves:
        connection.connection_lost(None)
    await idle()
    assert connection.socket.aborted is not leaves


@pytest.mark.parametrize("how", ["lost", "aborted"])
async def test_the_end_comes_once(how: str) -> None:
    """A connection that breaks or is cut off leaves `users` and is told of it once."""
    connection = Recorder().open()
    if how == "aborted":
        connection.abortConnection()
        assert connection.socket.aborted
    connection.connection_lost(None)
    connection.abortConnection()
    assert connection.events == ["connect", "disconnect"]
    assert not connection.users


# Slow readers


async def test_a_slow_reader_gets_no_pongs() -> None:
    """A peer that pings without reading does not fill the memory."""
    connection = slow("close").take(FakeFrame(b"a", PING))
    connection.resume_writing()
    assert connection.take(FakeFrame(b"b", PING)).socket.frames == [(PONG.value, b"b")]


async def test_a_slow_reader_is_heard_when_it_reads() -> None:
    """It gets no ping that would wait behind all the rest; that it takes something is an answer."""
    connection = slow("drop_oldest", "01")
    connection.was_heard = False
    connection.ping(b"ping")
    connection.resume_writing()
    assert connection.was_heard
    assert connection.socket.written == text("01")


async def test_a_half_closed_peer_that_reads_nothing_is_cut_off() -> None:
    """The transport would wait for ever for somebody to take what it holds."""
    connection = Recorder(Limits(close_timeout=0)).open()
    assert connection.eof_received() is False
    await idle()
    assert connection.socket.aborted


async def test_a_read_is_handled_in_turns() -> None:
    """Where the first messages put reading on hold, the others of the same read wait, in order."""
    connection = Recorder().open()
    connection.hold_reading()
    data = b"".join(wire.frame(TEXT.value, b"%d" % number) for number in range(1000))
    connection.receive(memoryview(data))
    assert 0 < len(connection.events) < 500
    connection.receive(memoryview(wire.frame(TEXT.value, b"1000")))
    connection.release_reading()
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.events[1:] == [(b"%d" % number, False) for number in range(1001)]
    assert connection.socket.reading


async def test_closing_sends_what_waits() -> None:
    """A close by a filter comes after what was sent before, also to a slow reader."""
    connection = slow("close", "01", "23")
    connection.sendMessage("45")
    connection.loseConnection()
    assert connection.socket.written == text("01", "23", "45") + encode_close(1000)


# What must not harm others


async def test_closing_while_leaving_changes_nothing() -> None:
    """A disconnect filter that closes its own connection again does not change the close code."""

    class ClosesAgain(Recorder):
        def onDisconnect(self) -> None:
            super().onDisconnect()
            self.loseConnection(4000, "mine")

    connection = ClosesAgain().open()
    connection.loseConnection(1001)
    assert connection.socket.close_codes == [1001]
    assert connection.events == ["connect", "disconnect"]


async def test_what_is_sent_early_never_grows_beyond_its_bound() -> None:
    """After the first message that does not fit, no other one like it is kept either."""
    connection = Recorder(Limits(queue_bytes=100))
    connection.sendMessage(b"x" * 60)
    for _ in range(3):
        with pytest.raises(BufferError):
            connection.sendMessage(b"y" * 60)
    connection.open().users.flush()  # type: ignore[attr-defined]
    assert connection.socket.written == text("x" * 60)


async def test_messages_to_a_refused_connection_cost_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once a connection cannot open any more, nothing is kept for it, and the log says so once."""
    connection = Recorder()
    connection.sendMessage("early")
    connection.will_not_open()
    for _ in range(3):
        connection.sendMessage("late")
    assert connection._early is None
    (record,) = caplog.records
    assert "a message to it was dropped" in record.getMessage()
