"""Values as they travel to Redis: JSON, never pickle.

What 0.4.1 stored and is plain data survives: str, bytes, int, float, bool, None, tuple and UUID.
Values that Python holds equal (1, 1.0, True) are encoded equal, so that a set in Redis has the same
members as a set in Python.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Hashable
from math import isfinite
from typing import Any
from uuid import UUID

__all__ = ["decode_value", "encode_value"]


def encode_value(value: Hashable) -> bytes:
    """Return `value` as JSON. Raises TypeError for what is not plain data, ValueError for NaN."""
    return json.dumps(_plain(value), separators=(",", ":"), allow_nan=False).encode()


def decode_value(data: bytes) -> Hashable:
    """Return the value that `encode_value` made `data` of. Raises ValueError for anything else."""
    try:
        return _value(json.loads(data, parse_constant=_no_constant))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a stored value: {data[:80]!r}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(value)
    if value is None or isinstance(value, str):
        return value if value is None else str.__str__(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, UUID):
        return {"uuid": value.hex}
    raise TypeError(
        f"{type(value).__name__} cannot be stored in Redis; str, bytes, int, float, bool, None, "
        "tuple and UUID can"
    )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} cannot be stored")


def _value(plain: Any) -> Hashable:
    if isinstance(plain, list):
        return tuple(_value(item) for item in plain)
    if isinstance(plain, dict):
        ((kind, text),) = plain.items()
        return b64decode(text, validate=True) if kind == "bytes" else _uuid(kind, text)
    if isinstance(plain, float) and not isfinite(plain):
        raise ValueError(f"{plain} cannot be stored")
    result: Hashable = plain
    return result


def _uuid(kind: str, text: str) -> UUID:
    if kind != "uuid":
        raise ValueError(f"unknown kind of value {kind!r}")
    return UUID(hex=text)
