"""`Frame`, as programs for 0.4.1 use it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.exception import FrameError
from filtered_websocket.server_protocol.frame import Frame


@given(st.binary(max_size=300), st.booleans(), st.binary(max_size=3))
@example(b"a" * 125, True, b"")
@example(b"a" * 126, True, b"rest")
@example(b"a" * 65535, False, b"rest")
@example(b"a" * 65536, True, b"")
def test_what_is_built_is_parsed(payload: bytes, mask: bool, rest: bytes) -> None:
    """A built frame gives its payload back, and ends where the next one begins."""
    built = Frame.buildMessage(payload, mask=mask)
    frame = Frame(built + rest)
    assert frame.message() == payload
    assert frame.length() == len(built)
    assert (frame.fin, bool(frame.mask)) == (1, mask)


@pytest.mark.parametrize("size", [0, 1, 126, 65536])
@pytest.mark.parametrize("mask", [True, False])
def test_an_incomplete_frame_says_so(size: int, mask: bool) -> None:
    """However short the beginning of a frame is, it is a FrameError and nothing else."""
    built = Frame.buildMessage(b"a" * size, mask=mask)
    for end in {*range(min(len(built), 16)), len(built) - 1}:
        with pytest.raises(FrameError, match="incomplete"):
            Frame(built[:end])


def test_the_example_of_the_rfc() -> None:
    """The masked "Hello" of RFC 6455 section 5.7 is read as such."""
    frame = Frame(bytes.fromhex("818537fa213d7f9f4d5158"))
    assert (frame.fin, frame.opcode, frame.message()) == (1, 1, b"Hello")


@given(st.binary(), st.binary(min_size=4, max_size=4))
def test_masking_twice_changes_nothing(data: bytes, key: bytes) -> None:
    """`encodeMessage` masks and unmasks."""
    assert Frame.encodeMessage(Frame.encodeMessage(data, key), key) == data
