"""Bytes to frames."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.exception import WireError
from filtered_websocket.server_protocol.parser import SPARES, FrameParser, ParserPool

from ...integration.wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_frame, frame

LIMIT = 200_000


class Recorder:
    """Keep what a parser finds."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes, bool]] = []
        self.errors: list[int] = []

    def on_frame(self, engine: Any, frame: Any, /) -> None:
        found = (frame.msg_type.value, frame.get_payload_as_bytes(), bool(frame.fin))
        self.frames.append(found)

    def on_error(self, error: WireError) -> None:
        self.errors.append(error.code)

    on_parse_error = on_error


def parse(*chunks: bytes) -> tuple[Recorder, bool]:
    """Return what a parser finds in `chunks`, and whether a part of a frame is left."""

    async def main() -> tuple[Recorder, bool]:
        parser, recorder, is_partial = FrameParser(LIMIT), Recorder(), False
        for chunk in chunks:
            is_partial = parser.feed(recorder, memoryview(chunk))
        return recorder, is_partial

    return asyncio.run(main())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(ends, ends[1:], strict=False) if a < b]


PAYLOADS = st.binary(max_size=300) | st.integers(0, 70_000).map(bytes)
FRAMES = st.builds(
    frame, st.sampled_from([TEXT, BINARY, CONTINUATION]), PAYLOADS, fin=st.booleans()
) | st.builds(frame, st.just(PING), st.binary(max_size=125))


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0)), st.binary(max_size=8))
def test_where_a_stream_is_cut_does_not_matter(
    frames: list[bytes], places: list[int], rubbish: bytes
) -> None:
    """Cut at any places, the same frames are found in it, and the same error behind them."""
    stream = b"".join(frames) + rubbish
    whole, _ = parse(stream)
    pieces, _ = parse(*cut(stream, places))
    assert pieces.frames == whole.frames
    assert pieces.errors[:1] == whole.errors[:1]
    assert len(whole.frames) >= len(frames)


@given(st.binary(max_size=100), st.lists(st.integers(0)))
def test_any_bytes_are_frames_or_an_error(data: bytes, places: list[int]) -> None:
    """Nothing that a peer sends makes the parser raise."""
    parse(*cut(data, places))


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(TEXT, b"a", masked=False), 1002),
        (frame(0x3), 1002),
        (frame(0xB), 1002),
        (frame(PING, fin=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (close_frame(1005), 1002),
        (close_frame(1000, b"\xff"), 1007),
        (frame(BINARY, bytes(LIMIT + 1))[:14], 1009),
        (b"\x82\xff" + b"\xff" * 12, 1002),
    ],
)
def test_errors_have_their_close_code(stream: bytes, code: int) -> None:
    """The frames in front of a mistake are found, then the mistake, and nothing behind it."""
    recorder, is_partial = parse(frame(TEXT, b"good") + stream)
    assert (recorder.frames, recorder.errors) == ([(TEXT, b"good", True)], [code])
    assert is_partial


def test_a_second_close_frame_does_not_hide_the_first() -> None:
    """Both in one read are a close frame, and an error behind it."""
    recorder, _ = parse(close_frame(1000) + close_frame(1000))
    assert recorder.frames == [(CLOSE, (1000).to_bytes(2), True)]
    assert recorder.errors == [1002]


async def test_a_receiver_that_fails_gets_1011(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged, and the connection is told to close."""

    class Fails(Recorder):
        def on_frame(self, engine: Any, frame: Any, /) -> None:
            raise KeyError("no such thing")

    recorder = Fails()
    assert FrameParser(LIMIT).feed(recorder, memoryview(frame(TEXT, b"a")))
    assert recorder.errors[0] == 1011
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "no such thing" in caplog.text


async def test_a_parser_serves_one_connection_after_the_other() -> None:
    """Between two frames it is free for the next connection."""
    pool, recorder = ParserPool(LIMIT), Recorder()
    parser = pool.take()
    assert pool.take() is not parser
    assert not parser.feed(recorder, memoryview(frame(TEXT, b"a") + frame(TEXT, b"b")))
    pool.give_back(parser)
    assert pool.take() is parser
    assert parser.feed(recorder, memoryview(frame(TEXT, b"c")[:-1]))


@pytest.mark.parametrize("step", [1000, 10**6])
async def test_a_parser_that_has_grown_is_not_kept(step: int) -> None:
    """The memory that a long message took is given back; a flood of short ones takes none."""
    pool, recorder = ParserPool(LIMIT), Recorder()
    parser = pool.take()
    for stream, is_kept in [
        (frame(TEXT, b"a") * 20_000, True),
        (frame(BINARY, bytes(LIMIT)), False),
    ]:
        for start in range(0, len(stream), step):
            is_partial = parser.feed(recorder, memoryview(stream[start : start + step]))
        assert not is_partial
        pool.give_back(parser)
        assert (pool.take() is parser) is is_kept


async def test_a_spare_parser_holds_no_connection() -> None:
    """What a connection holds is freed when it is gone, and not when another one reads."""
    pool, recorder = ParserPool(LIMIT), Recorder()
    parser = pool.take()
    parser.feed(recorder, memoryview(frame(TEXT, b"a")))
    pool.give_back(parser)
    assert sys.getrefcount(recorder) == 2


async def test_a_pool_keeps_a_few() -> None:
    """However many parsers were busy at once, the memory of most is given back."""
    pool = ParserPool(LIMIT)
    for parser in [pool.take() for _ in range(SPARES + 5)]:
        parser.feed(Recorder(), memoryview(frame(TEXT, b"a")))
        pool.give_back(parser)
    assert len(pool._spares) == SPARES
