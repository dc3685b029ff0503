"""What the source of filters says."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import count
from textwrap import indent

import pytest

from filtered_websocket.operation.source import FilterSource

from ..conftest import WriteModule

IMPORTS = (
    "from filtered_websocket.filters import base\nfrom filtered_websocket.filters.base import *\n"
)

numbers = count()
Read = Callable[[str], FilterSource]


@pytest.fixture
def read(write_module: WriteModule) -> Read:
    """Return a function that imports a module with this source and reads its class `Filter`."""

    def read(source: str) -> FilterSource:
        name = f"read_{next(numbers)}"
        write_module(f"{name}.py", IMPORTS + source)
        return FilterSource(importlib.import_module(name).Filter)

    return read


def message_filter(body: str, *, decorator: str = "", start: str = "async def") -> str:
    """Return the source of a message filter with these statements."""
    return (
        f"class Filter(WebSocketMessageFilter):\n    @classmethod\n{decorator}"
        f"    {start} filter(cls, connection, msg):\n{indent(body, ' ' * 8)}\n"
    )


@pytest.mark.parametrize(
    "body",
    [
        "return msg.upper()",
        "return b'x'",
        "return ''",
        "return base.Message(msg)",
        "return msg if len(msg) > 5 else b'short'",
        "if len(msg) > 5:\n    return msg[:5]",
        "msg = bytes(msg)\nreturn msg",
        "del msg[-1:]",
        "msg[:] = b'x'",
        "msg[0] += 1",
        "msg += b'!'",
        "msg.append(33)",
        "msg.extend(b'!')",
        "msg.clear()",
        "msg.is_binary = True",
        "for x in []:\n    with open(x):\n        msg.pop()",
        "return await translated(msg)",
    ],
)
def test_changes(body: str, read: Read) -> None:
    """A filter changes a message by what it returns, and in place."""
    assert read(message_filter(body)).changes()


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        "return",
        "return None",
        "return msg",
        "print(msg.upper())",
        "return print(msg)",
        "return msg if len(msg) > 5 else None",
        "return connection.sendMessage('ok')",
        "msg = msg + b'x'\nmsg += b'y'",
        "msg = bytearray(msg)\ndel msg[0]\nconnection.state['last'] = msg",
        "other = bytearray()\nother += msg\ndel other[0]\nother.is_binary = 1",
        "connection.state['a'] = msg[0]",
        "def inner():\n    return 5\ninner()",
        "key = lambda: msg.pop()",
        "class Inner:\n    is_binary = True",
        "return await connection.factory.told(msg)",
    ],
)
def test_no_changes(body: str, read: Read) -> None:
    """One that only looks, answers, or changes something else does not."""
    assert not read(message_filter(body)).changes()


@pytest.mark.parametrize(
    ("body", "sends"),
    [
        ("connection.users.broadcast(msg)", True),
        ("connection.factory.users.broadcast(msg, skip=connection.id)", True),
        ("for _, user in connection.users.items():\n    user.sendMessage(msg)", True),
        ("[user.sendMessage(msg) for user in connection.users.values()]", True),
        ("connection.sendMessage(msg)", False),
        ("for x in msg:\n    print(x)", False),
    ],
)
def test_what_sends_to_many(body: str, sends: bool, read: Read) -> None:
    """A broadcast or a loop that sends does; an answer to the sender does not."""
    assert read(message_filter(body)).sends_to_many() == sends


@pytest.mark.parametrize(
    ("body", "drops"),
    [
        ("raise DropMessage", True),
        ("if not msg:\n    raise base.DropMessage()", True),
        ("raise ValueError", False),
        ("DropMessage", False),
    ],
)
def test_what_drops(body: str, drops: bool, read: Read) -> None:
    """Only to raise it drops a message."""
    assert read(message_filter(body)).drops() == drops


def test_filters_without_async(read: Read) -> None:
    """A `def` is read as an `async def` is."""
    assert read(message_filter("msg.clear()", start="def")).changes()


def test_a_decorated_filter_is_read(read: Read) -> None:
    """Decorators of an author's own do not hide what a filter does."""
    same = "def same(function):\n    return function\n"
    assert read(same + message_filter("msg.clear()", decorator="    @same\n")).changes()


def test_arguments_may_be_positional_only(read: Read) -> None:
    """The signature of the base class is one that can be copied."""
    assert read(message_filter("msg.clear()").replace("msg)", "msg, /)", 1)).changes()


def test_a_static_filter_that_is_inherited_is_read(read: Read, write_module: WriteModule) -> None:
    """What counts is the method that runs, in whatever module it stands."""
    write_module(
        "read_parent.py",
        """
        class Parent:
            @staticmethod
            def filter(connection, text):
                del text[0]
        """,
    )
    child = "import read_parent\nclass Filter(read_parent.Parent, WebSocketMessageFilter): pass\n"
    assert read(child).changes()


@pytest.mark.parametrize(
    "source",
    [
        "class Filter(WebSocketMessageFilter):\n    filter = print\n",
        "exec('class Filter(WebSocketMessageFilter):\\n  filter = lambda c, m: m.pop()')",
    ],
)
def test_what_has_no_source_does_nothing(source: str, read: Read) -> None:
    """Of a filter that was made by a call, or is no function, nothing is known."""
    filter_source = read(source)
    assert not filter_source.changes()
    assert not filter_source.sends_to_many()
    assert not filter_source.drops()
