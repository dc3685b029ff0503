"""Frames as bytes."""

from __future__ import annotations

import zlib
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filtered_websocket.frames import (
    BINARY,
    COMPRESSED,
    PING,
    TEXT,
    deflate_frame,
    encode_control,
    encode_frame,
    is_binary_frame,
    is_utf8,
    measure_messages,
)

NOT_UTF8 = b"caf\xe9"


def parse(frame: bytes) -> tuple[int, bytes]:
    """Return opcode and payload of a final, unmasked frame (RFC 6455 section 5.2), and no rest."""
    first, length, rest = frame[0], frame[1], frame[2:]
    assert first & 0xF0 == 0x80, "final, with no reserved bit"
    assert length < 128, "unmasked"
    if length >= 126:
        size_bytes = {126: 2, 127: 8}[length]
        length, rest = int.from_bytes(rest[:size_bytes]), rest[size_bytes:]
        assert length >= (126 if size_bytes == 2 else 65536), "the shortest length"
    assert len(rest) == length
    return first & 0x0F, rest


@given(st.binary(max_size=300), st.booleans())
@example(b"a" * 125, False)
@example(b"a" * 126, False)
@example(b"a" * 65535, True)
@example(b"a" * 65536, False)
@example(b"\xff" * 65536, False)
def test_bytes_survive_a_frame(data: bytes, is_binary: bool) -> None:
    """A frame holds the payload, and is text only for UTF-8 that was not asked to be binary."""
    opcode, payload = parse(encode_frame(data, is_binary))
    assert payload == data
    assert opcode == (BINARY if is_binary or not is_utf8(data) else TEXT)


@given(st.text(max_size=300), st.booleans())
def test_str_is_always_text(text: str, is_binary: bool) -> None:
    """`str` goes as text, encoded as UTF-8, also when binary was asked for."""
    assert parse(encode_frame(text, is_binary)) == (TEXT, text.encode())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", True),
        (b"plain", True),
        ("Zażółć 🐢".encode(), True),
        (bytearray("żółw".encode()), True),
        (NOT_UTF8, False),
        (b"\xed\xa0\x80", False),
        (b"\xf0\x9f\x90", False),
    ],
    ids=["empty", "ascii", "utf8", "bytearray", "latin1", "surrogate", "cut"],
)
def test_is_utf8(data: bytes | bytearray, expected: bool) -> None:
    """Only what a text frame may hold counts as UTF-8."""
    assert is_utf8(data) is expected


@pytest.mark.parametrize("wrong", [None, 5, ["a"], memoryview(b"a")])
def test_anything_else_is_refused(wrong: Any) -> None:
    """What is neither bytes nor text raises a TypeError that says what it is."""
    with pytest.raises(TypeError, match=f"not {type(wrong).__name__}$"):
        encode_frame(wrong, False)


@given(st.binary(max_size=300) | st.text(max_size=300), st.booleans())
@example("żółw", True)
@example(NOT_UTF8, False)
@example(b"a" * 65536, True)
def test_a_frame_tells_whether_it_is_binary(data: bytes | str, is_binary: bool) -> None:
    """The type that a message was really sent with can be read off its frame."""
    frame = encode_frame(data, is_binary)
    assert is_binary_frame(frame) is (parse(frame)[0] == BINARY)


@given(st.binary(max_size=300), st.sampled_from([1, 2, 300]), st.integers(9, 15), st.booleans())
@example(b"", 1, 15, False)
@example(b"ab", 65, 9, True)
@example(bytes(range(256)), 257, 9, False)
@example(Random(0).randbytes(2000) + bytes(2000), 40, 9, True)
def test_a_compressed_frame_holds_the_message(
    data: bytes, times: int, window_bits: int, is_binary: bool
) -> None:
    """It is shorter, has RSV1 set, and inflates to the payload within the window that was asked."""
    frame = encode_frame(data * times, is_binary)
    deflated = deflate_frame(frame, window_bits)
    assert is_binary_frame(deflated) is is_binary_frame(frame)
    if deflated is frame:
        return
    assert len(deflated) < len(frame)
    assert deflated[0] & COMPRESSED
    opcode, payload = parse(bytes((deflated[0] & ~COMPRESSED, *deflated[1:])))
    assert opcode == frame[0] & 0x0F
    inflater = zlib.decompressobj(-window_bits)
    # Byte by byte: what one call gives back, zlib lets a message refer to beyond the window.
    stream = payload + b"\x00\x00\xff\xff"
    assert b"".join(inflater.decompress(bytes([byte])) for byte in stream) == data * times
    assert not inflater.eof


@pytest.mark.parametrize("data", [b"", b"a", b"Hello", bytes(range(256))])
def test_a_frame_that_does_not_shrink_is_left_alone(data: bytes) -> None:
    """What compression would lengthen goes as it is."""
    frame = encode_frame(data, is_binary=True)
    assert deflate_frame(frame, 15) is frame


@pytest.mark.parametrize("size", [200, 1024, 70_000])
def test_a_frame_that_repeats_shrinks(size: int) -> None:
    """What compression shortens goes compressed."""
    assert len(deflate_frame(encode_frame(b"abcdefgh" * (size // 8), False), 9)) < size / 4


sizes = st.integers(0, 300) | st.sampled_from([125, 126, 65535, 65536, 70000])
messages = st.builds(lambda size, binary: encode_frame(bytes(size), binary), sizes, st.booleans())
controls = st.binary(max_size=125).map(lambda payload: encode_control(PING, payload))


@given(st.lists(messages | controls, max_size=8), st.booleans())
def test_messages_in_frames_are_measured(frames: list[bytes], compressed: bool) -> None:
    """Messages of any size count, as they are or compressed; control frames do not."""
    is_control = [frame[0] & 0x08 for frame in frames]
    if compressed:
        frames = [f if c else deflate_frame(f, 15) for f, c in zip(frames, is_control, strict=True)]
    counted = [len(f) for f, c in zip(frames, is_control, strict=True) if not c]
    assert measure_messages(b"".join(frames)) == (len(counted), sum(counted))
    assert measure_messages(memoryview(b"".join(frames))) == (len(counted), sum(counted))
