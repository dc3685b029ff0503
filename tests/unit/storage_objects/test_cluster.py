"""What the servers of one cluster tell each other."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filtered_websocket.storage_objects.cluster import (
    Broadcast,
    Channels,
    EnvelopeError,
    decode_broadcast,
    decode_change,
    encode_broadcast,
    encode_change,
)
from filtered_websocket.storage_objects.replica import Change

ID = UUID("12345678123456781234567812345678")
BROADCAST = encode_broadcast(Broadcast(ID, 7, False, b"hello"))

numbers = st.integers(0, 2**64 - 1)
values = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)


def change(*, server: Any = ID.hex, number: Any = 1, key: Any = '"k"', value: Any = "1") -> bytes:
    """Return a change as bytes, with parts that may be wrong."""
    return json.dumps([server, number, key, value, True]).encode()


@given(st.uuids(), numbers, st.booleans(), st.binary())
@example(ID, 2**64 - 1, True, b"")
def test_broadcasts_survive(server: UUID, number: int, is_binary: bool, payload: bytes) -> None:
    """A broadcast comes out as it went in, whatever its payload holds."""
    broadcast = Broadcast(server, number, is_binary, payload)
    assert decode_broadcast(encode_broadcast(broadcast)) == broadcast


@given(st.uuids(), numbers, values, values, st.booleans())
def test_changes_survive(server: UUID, number: int, key: Any, value: Any, present: bool) -> None:
    """A change comes out as it went in."""
    whole = Change(server, number, key, value, present)
    assert decode_change(encode_change(whole)) == whole


@given(st.binary() | st.binary().map(lambda rest: b"fws1" + rest))
@example(b"")
@example(BROADCAST[:28])
@example(b"fws2" + BROADCAST[4:])
def test_any_bytes_are_a_broadcast_or_an_envelope_error(data: bytes) -> None:
    """Bytes that no server has sent raise EnvelopeError, and nothing else."""
    try:
        broadcast = decode_broadcast(data)
    except EnvelopeError:
        assert len(data) < 29 or not data.startswith(b"fws1")
    else:
        assert data.endswith(broadcast.payload)
        assert encode_broadcast(broadcast)[:28] == data[:28]


loose = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
nearly_changes = st.builds(
    change,
    server=st.just(ID.hex) | loose,
    number=numbers | loose,
    key=st.just('"k"') | st.text(max_size=8) | loose,
    value=st.just("1") | st.text(max_size=8) | loose,
)
odd_json = st.recursive(
    loose,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner, max_size=5)
    ),
).map(lambda document: json.dumps(document).encode())


@given(st.binary() | odd_json | nearly_changes)
@example(b"")
@example(b"[]")
@example(b"[1,2,3,4,5]")
@example(b'"abcde"')
@example(b"[" * 100_000)
@example(change(number=None))
@example(change(number=float("inf")))
@example(change(number=float("nan")))
@example(change(number=[]))
@example(change(number="1" * 5000))
@example(change(server="zz"))
@example(change(server=5))
@example(change(key=5))
@example(change(key="\ud800"))
@example(change(value="[" * 100_000))
@example(change(value="NaN"))
def test_any_bytes_are_a_change_or_an_envelope_error(data: bytes) -> None:
    """Bytes that no server has sent raise EnvelopeError; a change can be sent on."""
    try:
        decoded = decode_change(data)
    except EnvelopeError:
        return
    assert decode_change(encode_change(decoded)) == decoded


@pytest.mark.parametrize(
    ("decode", "what"), [(decode_broadcast, "broadcast"), (decode_change, "change")]
)
def test_an_error_shows_the_begin_of_the_bytes(decode: Any, what: str) -> None:
    """The message says what was expected, and shows some of what came: never all of it."""
    with pytest.raises(EnvelopeError) as error:
        decode(b"garbage" * 1_000_000)
    assert f"not a {what}: b'garbage" in str(error.value)
    assert len(str(error.value)) < 200


@given(values)
@example("red")
@example("*?[a]\\")
@example("with : and \n")
def test_each_group_has_a_channel(group: Any) -> None:
    """The group can be read off its channel, which is one of the internal channels."""
    channels = Channels("fws")
    name = channels.of_group(group)
    assert channels.group_of(name) == group
    assert name.startswith(channels.internal)
    assert name not in (channels.all, channels.changes)


@given(st.text(max_size=5), st.text(max_size=5), values)
@example("fws", "fws2", "a")
@example("fws", "fw", "a")
def test_deployments_have_their_own_channels(one: str, other: str, group: Any) -> None:
    """No channel of one prefix is one of another prefix."""
    first, second = Channels(one), Channels(other)
    names = ({c.all, c.changes, c.of_group(group)} for c in (first, second))
    assert set.isdisjoint(*names) is (one != other)
