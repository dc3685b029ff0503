"""Modules with filters, imported for one pipeline only."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from filtered_websocket.filters.base import FilterBase, WebSocketMessageFilter
from filtered_websocket.testing.isolation import empty_chains

from ..conftest import WriteModule

ONE_FILTER = """
from filtered_websocket.filters.base import WebSocketMessageFilter

class Mine(WebSocketMessageFilter):
    count = 0

    @classmethod
    def filter(cls, web_socket_instance, msg):
        pass
"""


def names(chain: type[FilterBase]) -> list[str]:
    return [name for name, _ in chain.chain().steps]


def test_a_module_is_imported_for_each(write_module: WriteModule) -> None:
    """Two blocks get two modules; neither registers its filters for others, nor stays imported."""
    write_module("isolated.py", ONE_FILTER)
    modules: list[Any] = []
    for _ in range(2):
        with empty_chains() as fresh:
            importlib.import_module("isolated")
            assert names(WebSocketMessageFilter) == ["isolated.Mine"]
        modules.append(fresh["isolated"])
    assert modules[0].Mine is not modules[1].Mine
    assert names(WebSocketMessageFilter) == [] and "isolated" not in sys.modules


def test_what_was_imported_before_is_put_back(write_module: WriteModule) -> None:
    """A module that the test has imported itself is the same afterwards, and so is its chain."""
    write_module("isolated/__init__.py", "")
    write_module("isolated/inner.py", ONE_FILTER)
    package = importlib.import_module("isolated")
    mine = importlib.import_module("isolated.inner")
    with empty_chains() as fresh:
        assert names(WebSocketMessageFilter) == []
        importlib.import_module("isolated.inner")
    assert fresh["isolated.inner"] is not mine
    assert sys.modules["isolated.inner"] is mine is package.inner  # type: ignore[attr-defined]
    assert names(WebSocketMessageFilter) == ["isolated.inner.Mine"]


def test_chains_of_their_own_are_put_back(write_module: WriteModule) -> None:
    """A chain that a module opens, and its filters, are new in each block too."""
    source = """
    from filtered_websocket.filters.base import FilterBase

    class Greeting(FilterBase):
        pass

    class Hello(Greeting):
        @classmethod
        def filter(cls, web_socket_instance, data):
            data.append(1)
    """
    write_module("greetings.py", source)
    importlib.import_module("greetings")
    with empty_chains() as fresh:
        importlib.import_module("greetings")
    runs: list[int] = []
    fresh["greetings"].Greeting.run(None, runs)
    sys.modules["greetings"].Greeting.run(None, runs)
    assert runs == [1, 1]
