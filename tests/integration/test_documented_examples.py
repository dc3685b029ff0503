"""The examples of the documentation, run as a user runs them."""

from __future__ import annotations

from collections.abc import Callable

from websockets.sync.client import connect

from ..process import ServerProcess, wait_until

Start = Callable[..., ServerProcess]


def test_without_arguments_messages_are_broadcast_and_printed(start_server: Start) -> None:
    """A's message reaches B and not A, and is printed with A's id."""
    server = start_server()
    with connect(server.url) as a, connect(server.url) as b:
        a.send("hello")
        assert b.recv(timeout=5) == "hello"
        b.send("done")
        assert a.recv(timeout=5) == "done"
    wait_until(lambda: server.stdout.count("--MESSAGE--\n") == 2, "two printed messages")
    assert " => hello\n" in server.stdout
