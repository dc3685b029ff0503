"""A message that comes in fragments, or compressed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.exception import WireError
from filtered_websocket.server_protocol.fragments import Fragments

from .test_deflate import compress
from .test_parser import cut


@given(st.binary(max_size=40) | st.text(max_size=20), st.lists(st.integers(0)), st.booleans())
def test_where_a_message_is_cut_does_not_matter(
    data: bytes | str, places: list[int], is_compressed: bool
) -> None:
    """Within characters too, compressed or not, it is whole again, with its type."""
    is_binary = isinstance(data, bytes)
    raw = data if isinstance(data, bytes) else data.encode()
    fragments = Fragments(100, is_binary=is_binary, is_compressed=is_compressed)
    for piece in cut(compress(raw) if is_compressed else raw, places):
        fragments.add(bytes(piece), False)
    fragments.add(b"", True)
    assert (fragments.message, fragments.message.is_binary) == (raw, is_binary)


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize(
    ("raw", "is_last", "code"),
    [
        (b"a" * 100, True, None),
        (b"a" * 101, False, 1009),
        (b"ab\xff", False, 1007),
        (b"ab\xf0\x9f", False, None),
        (b"ab\xf0\x9f", True, 1007),
    ],
)
def test_a_mistake_is_told_when_it_can_be_seen(
    raw: bytes, is_last: bool, code: int | None, is_compressed: bool
) -> None:
    """A character may go on in the next fragment; what cannot become right is an error at once."""
    fragments = Fragments(100, is_binary=False, is_compressed=is_compressed)
    payload = compress(raw) if is_compressed else raw
    if code is None:
        fragments.add(payload, is_last)
    else:
        with pytest.raises(WireError) as caught:
            fragments.add(payload, is_last)
        assert caught.value.code == code
