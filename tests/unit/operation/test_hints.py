"""What is probably a mistake in a pipeline. Whole pipelines are tested in the real process."""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Callable
from itertools import count
from textwrap import indent
from typing import Any

import pytest

from filtered_websocket.filters.base import WebSocketConnectFilter
from filtered_websocket.operation.hints import hints
from filtered_websocket.storage_objects import base, default

from ..conftest import WriteModule, add

IMPORTS = (
    "from filtered_websocket.filters import base\nfrom filtered_websocket.filters.base import *\n"
)

numbers = count()
Load = Callable[[str], str]


@pytest.fixture
def load(write_module: WriteModule) -> Load:
    """Return a function that imports a module with this source and returns its name."""

    def load(source: str) -> str:
        name = f"hinted_{next(numbers)}"
        write_module(f"{name}.py", IMPORTS + source)
        importlib.import_module(name)
        return name

    return load


def about(name: str, storage: Any = None) -> list[str]:
    """Return the hints that name this module."""
    return [hint for hint in hints(storage or default.StorageObject(Namespace())) if name in hint]


def message_filter(body: str) -> str:
    """Return the source of a message filter with these statements."""
    return (
        "class Filter(WebSocketMessageFilter):\n    @classmethod\n"
        f"    def filter(cls, connection, msg):\n{indent(body, ' ' * 8)}\n"
    )


BROADCAST = "connection.users.broadcast(msg)"


# Too late


def test_a_change_after_a_broadcast(load: Load) -> None:
    """A filter that changes what others have got already is named, with the place for it."""
    sender = load(message_filter(BROADCAST))
    late = load(message_filter("return msg.upper()"))
    looks = load(message_filter("print(msg)"))
    assert about(late) == [
        f"{late}.Filter changes the message, but {sender}.Filter has sent it as it was: "
        f"name {late} before {sender}"
    ]
    assert about(looks) == []


def test_a_change_after_an_answer(load: Load) -> None:
    """What only the sender gets may be changed for the others."""
    load(message_filter("connection.sendMessage(msg)"))
    late = load(message_filter("msg.clear()"))
    assert about(late) == []


def test_a_change_between_two_broadcasts(load: Load) -> None:
    """What a filter changes may be meant for the second of them."""
    load(message_filter(BROADCAST))
    between = load(message_filter("return b'x'"))
    load(message_filter(BROADCAST))
    assert about(between) == []


@pytest.mark.parametrize(
    "body", ["raise DropMessage", "raise base.DropMessage()", "raise ValueError"]
)
def test_a_drop_after_a_broadcast(body: str, load: Load) -> None:
    """To drop what was sent is in vain, unless a filter comes after it."""
    sender = load(message_filter(BROADCAST))
    late = load(message_filter(body))
    assert about(late) == (
        []
        if "ValueError" in body
        else [
            f"{late}.Filter drops messages, but {sender}.Filter has sent them: "
            f"name {late} before {sender}"
        ]
    )
    load(message_filter("print(msg)"))
    assert about(late) == []


# Chains


def test_a_class_without_the_method(load: Load) -> None:
    """A misspelt `filter` is the only reason why a class does nothing."""
    name = load(
        "class Wrong(WebSocketMessageFilter):\n    def filtr(cls, connection, msg): pass\n"
        "class Shared(WebSocketMessageFilter): pass\n"
        "class Right(Shared):\n    @staticmethod\n    def filter(connection, msg): pass\n"
    )
    assert about(name) == [f"{name}.Wrong has no method `filter` and does nothing: is it misspelt?"]


CHAIN = "class Farewell(FilterBase): pass\n"
MEMBER = "class Wave(Farewell):\n    @staticmethod\n    def filter(connection, data): pass\n"


def test_a_chain_without_filters(load: Load) -> None:
    """A chain that nothing joins does nothing."""
    name = load(CHAIN)
    assert about(name) == [
        f"chain {name}.Farewell has no filter: import the module with its filters, after -f"
    ]


@pytest.mark.parametrize(
    "use",
    [
        "Farewell.run(None, 'world')",
        "Wave.run(None, 'world')",
        "for chain in (Farewell,):\n    chain.run(None)",
        "run = Farewell.run",
    ],
)
def test_a_chain_that_is_run(use: str, load: Load) -> None:
    """Whoever runs it, under whatever name, uses it."""
    assert about(load(CHAIN + MEMBER + use)) == []


@pytest.mark.parametrize(
    "use",
    ["{0}.Farewell.run(None)", "from {0} import Farewell as G\nG.run(None)", "x = [{0}.Wave]"],
)
def test_a_chain_that_another_module_runs(use: str, load: Load) -> None:
    """It may be opened in one module and be run in another."""
    name = load(CHAIN + MEMBER)
    assert len(about(name)) == 1
    load(f"import {name}\n{use.format(name)}")
    assert about(name) == []


def test_a_chain_that_nobody_runs(load: Load) -> None:
    """To join a chain, and to import it, is not to run it."""
    name = load(CHAIN + MEMBER)
    load(f"from {name} import Farewell\n" + MEMBER.replace("Wave", "SecondWave"))
    assert about(name) == [
        f"nothing runs the chain {name}.Farewell: call "
        "Farewell.run(web_socket_instance, data) in a filter"
    ]


def test_a_class_of_two_chains_is_named_once(load: Load) -> None:
    """One mistake is one hint."""
    name = load("class Both(WebSocketMessageFilter, WebSocketConnectFilter): pass\n")
    assert len(about(name)) == 1


# The storage


class Bare:
    """A storage of before 0.4.1 had base classes."""

    def add(self, key: object, value: object) -> None:
        pass


class Unfinished(base.BaseStorageObject):
    """A storage that overrides `add` only."""

    def add(self, key: object, value: object) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "of_bare", "of_unfinished", "of_default"),
    [
        ("connection.storage_object.add(1, 2)", "", "", ""),
        ("connection.storage_object.get(1)", "get", "get", ""),
        ("connection.storage_object[1]", "__getitem__", "__getitem__", ""),
        ("storage = connection.storage_object\nstorage.remove(1, 2)", "remove", "remove", ""),
        ("connection.storage_object.publish('a', 'b')", "publish", "publish", "publish"),
        ("connection.storage_object.fetch(1)", "fetch", "fetch", "fetch"),
        ("connection.users.broadcast(msg, group=1)", "get", "get", ""),
        (
            "if hasattr(connection.storage_object, 'fetch'):\n    connection.storage_object.fetch",
            "",
            "",
            "",
        ),
        ("connection.storage_object.mine = 1\nconnection.storage_object.mine", "", "", ""),
        ("connection.storage_object.options", "options", "", ""),
    ],
)
def test_what_filters_need_of_the_storage(
    body: str, of_bare: str, of_unfinished: str, of_default: str, load: Load
) -> None:
    """A method that the storage has not, or only names, is told with the module that calls it."""
    name = load(message_filter(body))
    for storage, missing in (
        (Bare(), of_bare),
        (Unfinished(Namespace()), of_unfinished),
        (default.StorageObject(Namespace()), of_default),
    ):
        found = [hint.partition(" of the storage")[0] for hint in about(name, storage)]
        assert found == ([f"{name} needs {missing}"] if missing else [])


def test_a_storage_that_answers_by_itself(load: Load) -> None:
    """What `__getattr__` or a property makes counts as there."""

    class Dynamic:
        @property
        def fetch(self) -> None:
            raise RuntimeError("not connected")

        def __getattr__(self, name: str) -> str:
            return name

    uses = "connection.storage_object.fetch()\nconnection.storage_object.get()"
    assert about(load(message_filter(uses)), Dynamic()) == []


def test_a_module_that_is_gone_gives_no_hint(empty_chains: None) -> None:
    """A filter whose module is in no list of Python has no source to read."""
    add(WebSocketConnectFilter, lambda connection, data: None)
    WebSocketConnectFilter.chain().filters[0].__module__ = "gone_module"
    assert about("gone_module") == []
