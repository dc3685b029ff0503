"""Broadcasting within groups."""

from __future__ import annotations

import pytest

from filtered_websocket.filters import base
from filtered_websocket.typing import Message

from .fakes import FakeConnection, FakeServer

pytestmark = pytest.mark.usefixtures("empty_chains")


def say(connection: FakeConnection, text: bytes) -> None:
    from filtered_websocket.filters.broadcast_messages_by_token import TokenMessageFilter

    TokenMessageFilter.filter(connection, Message(text))


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (b"token:blue", "blue"),
        (b"  token:blue\n", "blue"),
        (b"token:token:blue", "token:blue"),
        ("token:żółw".encode(), "żółw"),
        (b"token:\xff", "\\xff"),
    ],
)
def test_a_token_message_joins_a_group(text: bytes, token: str) -> None:
    """The sender is in the group, has the token and is told so; nobody else hears of it."""
    connection = FakeConnection()
    say(connection, text)
    assert connection.token == token
    assert connection.storage_object[token] == {connection.id}
    assert connection.sent == [f"Successfully registered with broadcast group: {token}"]
    assert connection.users.broadcasts == []


def test_a_second_token_moves() -> None:
    """A client is in one group only: the last one that it named."""
    connection = FakeConnection()
    say(connection, b"token:blue")
    say(connection, b"token:red")
    assert connection.token == "red"
    assert connection.storage_object["blue"] is None
    assert connection.storage_object["red"] == {connection.id}


@pytest.mark.parametrize("text", [b"hello", b"token:", b"token: blue", b"my token:blue", b""])
def test_without_a_token_nothing_is_broadcast(text: bytes) -> None:
    """What is no registration, before one, is answered with an error."""
    connection = FakeConnection()
    say(connection, text)
    assert connection.sent == ["Error: No token has been set"]
    assert connection.token is None
    assert connection.users.broadcasts == []


def test_a_group_hears_its_own_messages_only() -> None:
    """A message goes to the sender's group, without the sender; the storage has the members."""
    server = FakeServer()
    a, b, other = (FakeConnection(server) for _ in range(3))
    for connection, token in ((a, b"token:blue"), (b, b"token:blue"), (other, b"token:red")):
        say(connection, token)
    say(a, b"hello")
    assert server.users.broadcasts == [(b"hello", a.id, "blue")]
    assert server.storage_object.get("blue") == {a.id, b.id}


def test_a_token_from_the_handshake_registers() -> None:
    """A client whose token an earlier filter set is in the group when it connects."""
    from filtered_websocket.filters.broadcast_messages_by_token import TokenConnectFilter

    server = FakeServer()
    known, unknown = FakeConnection(server, token="blue"), FakeConnection(server)
    for connection in (known, unknown):
        TokenConnectFilter.filter(connection, None)
    assert server.storage_object.storage == {"blue": {known.id}}


def test_who_is_gone_leaves_the_group() -> None:
    """The disconnect filter takes the id out; a client without a group is no error."""
    from filtered_websocket.filters.broadcast_messages_by_token import TokenDisconnectFilter

    server = FakeServer()
    member, stranger = FakeConnection(server), FakeConnection(server)
    say(member, b"token:blue")
    for connection in (member, stranger):
        TokenDisconnectFilter.filter(connection, None)
    assert server.storage_object["blue"] is None


def test_each_event_has_its_filter() -> None:
    """The module's classes are in the chains that their names tell."""
    from filtered_websocket.filters import broadcast_messages_by_token as module

    assert issubclass(module.TokenMessageFilter, base.WebSocketMessageFilter)
    assert issubclass(module.TokenConnectFilter, base.WebSocketConnectFilter)
    assert issubclass(module.TokenDisconnectFilter, base.WebSocketDisconnectFilter)
