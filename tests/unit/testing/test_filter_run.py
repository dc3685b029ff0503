"""What pipelines and servers have in common."""

from __future__ import annotations

import inspect
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket.config import ConfigError
from filtered_websocket.importer import ModuleError
from filtered_websocket.testing import Pipeline, Server
from filtered_websocket.testing.filter_run import FilterRun

from ..conftest import WriteModule

ANNOTATIONS = "__annotations__"
MANUAL = Path(__file__).parents[3] / "docs" / "testing.md"
BOTH = pytest.mark.parametrize("kind", [Pipeline, Server])


@BOTH
@pytest.mark.parametrize(
    ("filters", "options", "error"),
    [
        (("no_such_filter",), {}, ModuleError),
        ((), {"no_such_option": 1}, ConfigError),
        ((), {"rate": "fast"}, ConfigError),
        ((["broadcast_messages"],), {}, TypeError),
        ((), {"filters": ["broadcast_messages"]}, TypeError),
        ((), {"storage": "no_such_storage"}, ModuleError),
    ],
)
def test_what_cannot_start(
    kind: type[FilterRun],
    empty_chains: None,
    filters: tuple[Any, ...],
    options: Any,
    error: type[Exception],
) -> None:
    """What `fws_server` would complain of is raised, and nothing is left behind."""
    before = list(logging.getLogger().handlers), threading.enumerate()
    with pytest.raises(error):
        kind(*filters, **options)
    assert (logging.getLogger().handlers, threading.enumerate()) == before


@BOTH
def test_a_module_without_filters_is_a_warning(
    kind: type[FilterRun], write_module: WriteModule
) -> None:
    """The warning is of the line of the test that names the module."""
    write_module("nothing.py", "")
    with pytest.warns(UserWarning, match="has no filters") as warned:
        kind("nothing").close()
    assert warned[0].filename == __file__


@BOTH
def test_a_call_in_the_event_loop(kind: type[FilterRun], empty_chains: None) -> None:
    """`call` returns what the function does, or raises."""
    with kind() as run:
        assert run.call(lambda: len(run.server.users)) == 0
        with pytest.raises(ZeroDivisionError):
            run.call(lambda: 1 / 0)


@BOTH
def test_waiting_for_what_is_there(kind: type[FilterRun], empty_chains: None) -> None:
    """`wait_for` takes no time when the condition is true already."""
    with kind("broadcast_messages") as run:
        alice, bob = run.connect(), run.connect()
        alice.send("hi")
        run.wait_for(lambda: bob.received, seconds=0)


def public(kind: type) -> set[str]:
    """Return the names that a class and its bases have for everybody."""
    names = {name for cls in kind.__mro__ for name in (*vars(cls), *vars(cls).get(ANNOTATIONS, ()))}
    return {name for name in names if not name.startswith("_")}


def test_the_table_of_the_manual_has_what_both_have() -> None:
    """Each row says truly whether a server has it too, and none is missing."""
    table = MANUAL.read_text().partition("| a pipeline has |")[2].partition("\n\n")[0]
    told: dict[str, set[str]] = {"yes": set(), "no": set(), "only": set()}
    for row in table.splitlines()[2:]:
        names, _, answer = row.strip("| ").split(" | ")
        told[re.split(r"\W", answer)[0]] |= set(re.findall(r"`(\w+)", names))
    assert told["yes"] == public(Pipeline) & public(Server)
    assert told["no"] == public(Pipeline) - public(Server) - {"connect_with"}
    assert told["only"] == public(Server) - public(Pipeline)


def test_both_are_made_alike() -> None:
    """What makes one and what connects to it takes the same arguments for the other."""
    for name in ("__init__", "connect", "call", "put", "wait_for", "module", "close"):
        of_pipeline, of_server = (
            inspect.signature(getattr(kind, name)) for kind in (Pipeline, Server)
        )
        assert of_pipeline == of_server
