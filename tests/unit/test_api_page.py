"""The API page has all that users may call, and the source says of each what it does."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "api.md"

MODULES = [
    "filtered_websocket",
    "filtered_websocket.config_deserializer",
    "filtered_websocket.filters.base",
    "filtered_websocket.server",
    "filtered_websocket.storage_objects.base",
    "filtered_websocket.storage_objects.default",
    "filtered_websocket.storage_objects.redis",
    "filtered_websocket.storage_objects.subscribers.base",
    "filtered_websocket.testing",
    "filtered_websocket.testing.client",
    "filtered_websocket.testing.filter_run",
    "filtered_websocket.testing.pipeline",
    "filtered_websocket.testing.plugin",
    "filtered_websocket.testing.server",
    "filtered_websocket.typing",
    "filtered_websocket.users",
]
"""Users import from these, or from modules that import from them."""

WIRE = [
    "filtered_websocket.server_protocol.handshake",
    "filtered_websocket.server_protocol.outbox",
    "filtered_websocket.server_protocol.server",
]
"""From these nobody imports, but connections inherit."""

SERVERS_OWN = {
    "__version__",
    "BroadcastTarget",
    "ConfigFileError",
    "Data",
    "FilterError",
    "FilterRun",
    "PATIENCE",
    "StartError",
    "Transport",
    "Wire",
    "message_frames",
    "parse_response",
    "read_config",
    "request",
}
"""Public names of these modules that only the server and the test kit use."""

SERVERS_OWN_MEMBERS = {
    "BaseStorageObject": {"storage"},
    "BaseSubscriber": {"data_producer"},
    "Client": {"on_bytes", "on_end"},
    "Connection": {
        "come_from",
        "dataReceived",
        "onHandshake",
    },
    "ConsumerQueue": {"count", "take", "wake"},
    "FilterBase": {
        "accept",
        "chain",
        "ended_by",
        "lets_through",
        "may_be_async",
        "survives_errors",
    },
    "FilteredWebSocketFactory": {
        "buildProtocol",
        "close",
        "compresses",
        "connect_chain",
        "consumer",
        "consumer_chain",
        "counters",
        "data_chain",
        "disconnect_chain",
        "handshake_chain",
        "keepalive",
        "leaving",
        "limits",
        "message_chain",
        "parsers",
        "stuck",
        "time",
        "turns",
        "wants_raw_data",
    },
    "Outbox": {
        "counters",
        "forget_waiting",
        "is_backed_up",
        "limits",
        "lose_transport",
        "on_dropping",
        "on_too_slow",
        "pause_writing",
        "resume_writing",
        "send_all_waiting",
        "transport",
        "unsent_bytes",
        "waiting_messages",
        "write",
    },
    "Pipeline": {"connect_with"},
    "Protocol": {
        "buffer_updated",
        "connection_lost",
        "end",
        "eof_received",
        "get_buffer",
        "hold_reading",
        "is_held",
        "onConnect",
        "onDisconnect",
        "onMessage",
        "onPong",
        "on_error",
        "on_frame",
        "on_parse_error",
        "open",
        "ping",
        "receive",
        "release_reading",
        "wait_closed",
        "was_heard",
        "will_not_open",
        "window_bits",
    },
    "StorageObject": {
        "channels",
        "client",
        "dropped",
        "is_stopping",
        "place",
        "replica",
        "server_id",
        "subscribed",
        "subscriber",
    },
    "Users": {
        "check_thread",
        "clear",
        "counters",
        "deliver",
        "encode",
        "enter",
        "flush",
        "leave",
        "offered",
        "pop",
        "popitem",
        "send_control",
        "send_frame",
        "setdefault",
        "update",
        "waiting",
    },
}
"""Public members that only the server, the event loop and the test kit use."""


@cache
def documented() -> dict[str, list[str]]:
    """Return the dotted names on the page, each with the members that are listed below it."""
    directive = re.compile(r"^\.\. auto\w+:: ([\w.]+).*\n(?:   :members: (.*)\n)?", re.MULTILINE)
    found = directive.findall(PAGE.read_text())
    assert found
    return {name: members.split(", ") if members else [] for name, members in found}


def load(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


CLASSES = [name for name in documented() if isinstance(load(name), type)]


@cache
def members(cls: type) -> dict[str, bool]:
    """Return the public members that a class itself has, and whether each has a docstring."""
    found = {
        name: bool(value.__doc__)
        for name, value in vars(cls).items()
        if not inspect.ismemberdescriptor(value) and not inspect.isgetsetdescriptor(value)
    }
    (definition,) = ast.parse(dedent(inspect.getsource(cls))).body
    for node in ast.walk(definition):
        body = getattr(node, "body", [])
        for statement, following in pairwise([*body, None] if isinstance(body, list) else []):
            for name in attributes(statement, is_of_class=node is definition):
                found[name] = found.get(name, False) or (
                    isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                )
    return {name: has for name, has in found.items() if name[0] != "_" or name == "__getitem__"}


def attributes(statement: ast.stmt | None, *, is_of_class: bool) -> Iterator[str]:
    """Yield the names of the attributes that a statement sets on a class or its objects."""
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return
    for target in targets:
        if isinstance(target, ast.Name) and is_of_class:
            yield target.id
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            yield target.attr


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_is_on_the_page(module: str) -> None:
    """What a module offers, by `__all__` or else by defining it, is there, or is the server's."""
    loaded = import_module(module)
    own = [n for n, value in vars(loaded).items() if getattr(value, "__module__", "") == module]
    names = {name for name in getattr(loaded, "__all__", own) if name[0] != "_"}
    on_page = {name.rpartition(".")[2] for name in documented() if load(name)}
    assert names - on_page <= SERVERS_OWN


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_member_is_on_the_page(name: str) -> None:
    """Each is listed with its class, or with a class on the page that this one inherits from."""
    classes = [cls for cls in load(name).__mro__ if cls.__module__ in MODULES + WIRE]
    listed = {m for n, found in documented().items() if load(n) in classes for m in found}
    own: set[str] = set()
    for cls in classes:
        own |= SERVERS_OWN_MEMBERS.get(cls.__name__, set())
    assert own.isdisjoint(listed)
    assert {member for cls in classes for member in members(cls)} - listed - own == set()


@pytest.mark.parametrize("name", documented())
def test_what_is_on_the_page_has_a_docstring(name: str) -> None:
    """A sentence for itself, and one for each member; the manual is made of them."""
    found = load(name)
    assert found.__doc__, name
    classes = [cls for cls in getattr(found, "__mro__", ()) if cls.__module__.startswith("filt")]
    for member in documented()[name]:
        owners = [cls for cls in classes if member in members(cls)]
        assert any(members(cls)[member] for cls in owners), f"{name}.{member}"
