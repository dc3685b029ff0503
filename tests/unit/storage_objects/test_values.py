"""Values as they travel to Redis."""

from __future__ import annotations

import json
from collections import namedtuple
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filtered_websocket.storage_objects.values import decode_value, encode_value

SURROGATE = "\ud800"
ID = UUID("12345678123456781234567812345678")

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
    | st.binary()
    | st.uuids(),
    lambda values: st.lists(values, max_size=4).map(tuple),
    max_leaves=10,
)

# Few values, so that two of them are often equal, and often of different types.
small = st.recursive(
    st.sampled_from([None, False, True, 0, 1, 2, 0.0, -0.0, 1.0, 0.5, "", "1", b"", b"1", ID]),
    lambda values: st.lists(values, max_size=2).map(tuple),
    max_leaves=3,
)


@given(plain)
@example(SURROGATE)
@example(1e300)
@example(5e-324)
@example(2**200)
@example(((), ((),)))
def test_plain_values_survive(value: Any) -> None:
    """What was encoded decodes to an equal value of the same kind."""
    decoded = decode_value(encode_value(value))
    assert decoded == value
    assert hash(decoded) == hash(value)


@given(small, small)
def test_equal_values_are_encoded_equal_and_others_not(one: Any, other: Any) -> None:
    """A set in Redis tells values apart exactly where a set in Python does."""
    assert (encode_value(one) == encode_value(other)) is (one == other)


class Shown(str):
    """Equal a str and print differently, as members of `class Colour(str, Enum)` do."""

    def __str__(self) -> str:
        return f"Shown.{self.upper()}"


class Number(IntEnum):
    ONE = 1


Point = namedtuple("Point", "x y")


class Id(UUID):
    pass


@pytest.mark.parametrize(
    ("value", "equal"),
    [(Shown("red"), "red"), (Number.ONE, 1), (Point(1, 2.0), (1, 2)), (Id(ID.hex), ID)],
    ids=["str", "int", "tuple", "uuid"],
)
def test_children_of_plain_types_are_stored_as_what_they_equal(value: Any, equal: Any) -> None:
    """An enum of str, or a named tuple, is the same member as the plain value that it equals."""
    assert value == equal
    assert encode_value(value) == encode_value(equal)


@given(st.binary())
@example(b"")
@example(b"NaN")
@example(b"[Infinity]")
@example(b"-Infinity")
@example(b"1e999")
@example(b"{}")
@example(b'{"bytes":"YQ==","uuid":""}')
@example(b'{"bytes":"!"}')
@example(b'{"bytes":5}')
@example(b'{"uuid":5}')
@example(b'{"uuid":null}')
@example(b'{"uuid":["a"]}')
@example(b'{"other":"a"}')
@example(b"\xff\xfe")
@example(b"[" * 100_000)
@example(b"[" * 100_000 + b"]" * 100_000)
@example(b"1" * 5000)
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    """Bytes from Redis give a value that can be stored and found again, or ValueError."""
    try:
        value = decode_value(data)
    except ValueError:
        return
    assert decode_value(encode_value(value)) == value
    assert len({value, decode_value(data)}) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(st.sampled_from(["bytes", "uuid", "x"]), values, max_size=2)
    ),
    max_leaves=6,
)


@given(json_values)
def test_any_json_is_a_value_or_a_value_error(document: Any) -> None:
    """JSON of somebody else gives something hashable, or ValueError."""
    try:
        hash(decode_value(json.dumps(document).encode()))
    except ValueError:
        pass


@pytest.mark.parametrize(
    "value",
    [[1], {1}, {"a": 1}, bytearray(b"a"), frozenset(), 1j, Decimal(1), object(), ..., ("a", [1])],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_data_is_refused(value: Any) -> None:
    """A TypeError names the type and says which ones can be stored."""
    kind = "list" if isinstance(value, tuple) else type(value).__name__
    with pytest.raises(TypeError, match=rf"^{kind} cannot be stored in Redis; str, bytes, "):
        encode_value(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), ("a", float("-inf"))], ids=repr)
def test_floats_that_are_no_numbers_are_refused(value: Any) -> None:
    """NaN equals nothing, not even itself, and JSON has no infinity: both raise ValueError."""
    with pytest.raises(ValueError):
        encode_value(value)
