"""Importing filter modules and the storage module."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

import pytest

from filtered_websocket.filters.base import WebSocketMessageFilter
from filtered_websocket.importer import (
    ModuleError,
    add_storage_options,
    import_filters,
    import_storage,
)
from filtered_websocket.storage_objects.default import StorageObject

from .conftest import WriteModule

FILTER = """\
from filtered_websocket.filters.base import WebSocketMessageFilter

class Added(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        pass
"""


def loaded() -> list[str]:
    """The message filters in their order, by module."""
    return [name.rpartition(".")[0] for name, _ in WebSocketMessageFilter.chain().steps]


def complaint(name: str) -> str:
    """Return the one line of the ModuleError."""
    with pytest.raises(ModuleError) as error:
        import_filters([name])
    assert "\n" not in str(error.value)
    return str(error.value)


# Finding a filter module


def test_modules_run_in_order_and_once(write_module: WriteModule) -> None:
    """Filters run in the order of import; a module that is named twice runs once."""
    for name in ("first", "second"):
        write_module(f"{name}_of_two.py", FILTER)
    assert import_filters(["second_of_two", "first_of_two", "second_of_two"]) == []
    assert loaded() == ["second_of_two", "first_of_two"]


def test_a_module_in_a_package(write_module: WriteModule) -> None:
    """A dotted name works, with an `__init__.py` or without."""
    write_module("some_filters/chat.py", FILTER)
    write_module("more_filters/__init__.py", "")
    write_module("more_filters/chat.py", FILTER)
    import_filters(["some_filters.chat", "more_filters.chat"])
    assert loaded() == ["some_filters.chat", "more_filters.chat"]


@pytest.mark.parametrize("name", ["stdout_pubsub", "filtered_websocket.filters.stdout_pubsub"])
def test_a_bundled_filter_by_its_short_name(name: str, write_module: WriteModule) -> None:
    """`-f stdout_pubsub` is the bundled filter when there is no other module of that name."""
    assert import_filters([name]) == []
    assert "filtered_websocket.filters.stdout_pubsub" in sys.modules


def test_a_module_of_ones_own_wins_over_a_bundled_one(write_module: WriteModule) -> None:
    """A file in the current directory may have the name of a bundled filter."""
    write_module("stdout_pubsub.py", FILTER)
    import_filters(["stdout_pubsub"])
    assert loaded() == ["stdout_pubsub"]


def install(write_module: WriteModule, entry_points: str) -> None:
    write_module("pack-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n")
    write_module(
        "pack-1.0.dist-info/entry_points.txt", f"[filtered_websocket.filters]\n{entry_points}\n"
    )


@pytest.mark.parametrize("target", ["pack.limits", "pack.limits:Added"])
def test_a_filter_of_an_installed_package(target: str, write_module: WriteModule) -> None:
    """A name that is no module is looked up among the entry points of installed packages."""
    install(write_module, f"rate_limit = {target}")
    write_module("pack/limits.py", FILTER)
    assert import_filters(["rate_limit"]) == []
    assert loaded() == ["pack.limits"]


def test_an_entry_point_that_leads_nowhere(write_module: WriteModule) -> None:
    """The error says that the module behind the name is what is missing."""
    install(write_module, "rate_limit = pack.gone")
    message = complaint("rate_limit")
    assert message.startswith("filter module 'rate_limit' failed on import: ")
    assert message.endswith("ModuleNotFoundError: No module named 'pack'")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nothing", "is its folder the current directory?"),
        ("nothing.at.all", "is its folder the current directory?"),
        ("json.nothing", "is its folder the current directory?"),
        ("base", "is its folder the current directory?"),
        ("", "is its folder the current directory?"),
        ("..", "is its folder the current directory?"),
        ("chat_file.py", "name the module, not the file: -f chat_file"),
        ("./chat_file.py", "name the module, not the file: -f chat_file"),
        ("/srv/chat_file.py", "name the module, not the file: -f chat_file"),
        ("config.json", "to read a config file, write -c config.json"),
        ("./config.toml", "to read a config file, write -c ./config.toml"),
        ("9000", "to choose the port, write -p 9000"),
    ],
)
def test_a_module_that_is_not_there(name: str, hint: str, write_module: WriteModule) -> None:
    """The error has the name as it was written, and what was probably meant."""
    write_module("chat_file.py", FILTER)
    assert complaint(name) == f"filter module {name!r} was not found; {hint}"


# A filter module that cannot be used


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("x = 1\nx / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("def f():\n    raise OSError('away')\nf()\n", 2, "OSError: away"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: Expecting property name"),
        ("import sys\nsys.exit('no')\n", 2, "SystemExit: no"),
        ("import os\nos.environ['NO_SUCH']\n", 2, "KeyError: 'NO_SUCH'"),
        ("\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("from os import nope\n", 1, "ImportError: cannot import name 'nope' from 'os'"),
        ("x = 1\ndef f(:\n", 2, "SyntaxError: invalid syntax"),
        ("if True:\nx = 1\n", 2, "IndentationError: expected an indented block"),
    ],
    ids=[
        "raises",
        "in-function",
        "in-library",
        "exits",
        "frozen",
        "missing",
        "name",
        "syntax",
        "indent",
    ],
)
def test_a_module_that_fails_on_import(
    source: str, line: int, reason: str, write_module: WriteModule
) -> None:
    """The error shows the author's file and line and the reason, in one line."""
    path = write_module("broken_filter.py", source)
    assert complaint("broken_filter").startswith(
        f"filter module 'broken_filter' failed on import: {path}, line {line}: {reason}"
    )


def test_an_error_in_a_module_that_it_imports(write_module: WriteModule) -> None:
    """The place is where it went wrong, not where the import began."""
    path = write_module("broken_helper.py", "\n\n1 / 0\n")
    write_module("using_helper.py", "import broken_helper\n")
    assert f"{path}, line 3: ZeroDivisionError" in complaint("using_helper")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("import pack_with\n", "No module named 'pack_with'"),
    ],
    ids=["raises", "missing", "missing-and-alike"],
)
def test_a_package_that_fails_on_import(
    source: str, reason: str, write_module: WriteModule
) -> None:
    """A module that is there is not called missing because of its broken parent."""
    path = write_module("pack_with_errors/__init__.py", source)
    write_module("pack_with_errors/chat.py", FILTER)
    message = complaint("pack_with_errors.chat")
    assert f"failed on import: {path}, line 1: " in message
    assert message.endswith(reason) or reason in message


@pytest.mark.parametrize(
    "source",
    ["", "from filtered_websocket.filters.base import *", "class Chat:\n    pass\n"],
    ids=["empty", "imports-only", "no-child"],
)
def test_a_module_without_filters(source: str, write_module: WriteModule) -> None:
    """It is a warning: the module may be there for what it does on import."""
    write_module("without_filters.py", source)
    (warning,) = import_filters(["without_filters"])
    assert warning.startswith("filter module 'without_filters' has no filters: ")
    assert "filtered_websocket.filters.base" in warning


def test_a_module_that_imports_its_filters(write_module: WriteModule) -> None:
    """A module may collect filters from elsewhere."""
    write_module("elsewhere_filters.py", FILTER)
    write_module("collected_filters.py", "from elsewhere_filters import Added\n")
    assert import_filters(["collected_filters"]) == []


def test_a_file_that_python_has_a_module_for(write_module: WriteModule) -> None:
    """When Python's own module hides the author's file, the warning says so."""
    path = write_module("colorsys.py", FILTER)
    (warning,) = import_filters(["colorsys"])
    assert warning.endswith(f"colorsys.py has the same name as {path}: rename yours")
    assert loaded() == []


def test_a_filter_that_cannot_run(write_module: WriteModule) -> None:
    """A forgotten @classmethod is found before the server listens."""
    path = write_module("forgotten.py", FILTER.replace("    @classmethod\n", ""))
    assert f"Added ({path}, line 4): put @classmethod" in complaint("forgotten")


# The storage module


@pytest.mark.parametrize("name", [None, "", "filtered_websocket.storage_objects.default"])
def test_the_default_storage(name: str | None) -> None:
    """Without a name, everything is kept in memory."""
    assert import_storage(name) is StorageObject


def test_a_storage_module_of_ones_own(write_module: WriteModule) -> None:
    """A module in the current directory works."""
    write_module("my_own_storage.py", "class StorageObject:\n    mark = 5\n")
    assert import_storage("my_own_storage").mark == 5


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("no_storage_there", None, "was not found; is its folder the current directory?"),
        ("storage_a", "", "has no class StorageObject"),
        ("storage_b", "StorageObject = 5\n", "has no class StorageObject"),
        ("storage_c", "\n1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("sys", None, "has no class StorageObject"),
    ],
)
def test_a_storage_module_that_cannot_be_used(
    name: str, source: str | None, expected: str, write_module: WriteModule
) -> None:
    """The error names the module and what is wrong with it."""
    if source is not None:
        write_module(f"{name}.py", source)
    with pytest.raises(ModuleError) as error:
        import_storage(name)
    assert str(error.value).startswith(f"storage module {name!r}")
    assert str(error.value).endswith(expected)


def test_a_storage_class_may_have_no_parser(write_module: WriteModule) -> None:
    """A class that does not inherit from ours, and adds no options, works."""
    write_module("plain_storage.py", "class StorageObject:\n    pass\n")
    parser = ArgumentParser()
    before = parser.format_help()
    add_storage_options(import_storage("plain_storage"), parser)
    assert parser.format_help() == before


def test_a_parser_that_fails(write_module: WriteModule) -> None:
    """The error names the module, and the author's file and line."""
    source = "class StorageObject:\n    def parser(parser):\n        parser.add_argument(1)\n"
    path = write_module("parser_storage.py", source)
    with pytest.raises(ModuleError) as error:
        add_storage_options(import_storage("parser_storage"), ArgumentParser())
    message = str(error.value)
    assert message.startswith("storage module 'parser_storage': parser() failed: ")
    assert f"{path}, line 3: " in message


@pytest.mark.parametrize("error", ["SystemExit", "GeneratorExit", "asyncio.CancelledError"])
def test_a_module_may_raise_anything(error: str, write_module: WriteModule) -> None:
    """What is no Exception is told of like one, with the author's line, at any depth."""
    source = f"import asyncio\nraise {error}('no')\n"
    path = write_module("raising_filter.py", source)
    name = error.rpartition(".")[2]
    assert complaint("raising_filter").endswith(f"{path}, line 2: {name}: no")
    parent = write_module("raising_package/__init__.py", source)
    assert complaint("raising_package.chat").endswith(f"{parent}, line 2: {name}: no")
