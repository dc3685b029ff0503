"""What is told of a server that starts, for each way to start one."""

from __future__ import annotations

import asyncio
import socket
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket.config import resolve
from filtered_websocket.filters.base import WebSocketConnectFilter, WebSocketMessageFilter
from filtered_websocket.operation import start_lines
from filtered_websocket.options import default_parser
from filtered_websocket.server import FilteredWebSocketFactory


def make_options(*arguments: str) -> Namespace:
    return resolve(default_parser(), arguments, {}).options


class FakeSocket:
    """A socket that is bound to an address which a test must not open."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.family = (
            socket.AF_UNIX
            if address.startswith("/")
            else socket.AF_INET6
            if ":" in address
            else socket.AF_INET
        )

    def getsockname(self) -> str | tuple[str, int]:
        return self.address if self.family == socket.AF_UNIX else (self.address, 9000)


def describe(
    addresses: Sequence[str], *arguments: str, is_activated: bool = False
) -> dict[str, str]:
    """Return the start lines by name."""

    async def main() -> list[tuple[str, str]]:
        sockets: Any = [FakeSocket(address) for address in addresses]
        options = make_options(*arguments)
        return start_lines._description(
            options, sockets, FilteredWebSocketFactory(), is_activated=is_activated
        )

    return dict(asyncio.run(main()))


@pytest.mark.parametrize(
    ("addresses", "url", "open_to"),
    [
        (
            ["127.0.0.1", "::1"],
            "http://localhost:9000/",
            "this machine only; --host '*' lets others",
        ),
        (["0.0.0.0", "::"], "http://localhost:9000/", "0.0.0.0:9000, [::]:9000"),
        (["192.0.2.1"], "http://192.0.2.1:9000/", "192.0.2.1:9000"),
        (["2001:db8::1"], "http://[2001:db8::1]:9000/", "[2001:db8::1]:9000"),
    ],
)
def test_the_address_is_one_to_open(
    addresses: list[str], url: str, open_to: str, empty_chains: None
) -> None:
    """The first line is a URL, the second says who can reach it."""
    lines = describe(addresses)
    assert lines["fws_server"] == url
    assert lines["open to"].startswith(open_to)


def test_tls_is_in_the_address(empty_chains: None) -> None:
    """With a key the URL is https."""
    assert describe(["::1"], "-key", "k")["fws_server"] == "https://[::1]:9000/"


def test_a_unix_socket_is_named(empty_chains: None) -> None:
    """Its path stands where the URL does, with what decides who can reach it."""
    lines = describe([], "--unix_socket", "/run/fws.sock")
    assert lines["fws_server"] == "unix:/run/fws.sock"
    assert lines["open to"] == "whom its directory lets in"


@pytest.mark.parametrize(
    ("addresses", "place"),
    [
        (["192.0.2.1"], "http://192.0.2.1:9000/"),
        (["/run/fws.sock"], "unix:/run/fws.sock"),
        (["/run/fws.sock", "192.0.2.1"], "http://192.0.2.1:9000/"),
    ],
)
def test_sockets_of_the_service_manager_are_named(
    addresses: list[str], place: str, empty_chains: None
) -> None:
    """They stand there instead of what the options say, and a line says so."""
    lines = describe(addresses, "-p", "80", "--unix_socket", "other", is_activated=True)
    assert lines["fws_server"] == place
    assert lines["listens on"].startswith("what the service manager has passed on, not on --port")


def test_what_runs_is_described(empty_chains: None, tmp_path: Path) -> None:
    """Each chain has its filters in order, storage and config are named."""
    for chain, name in (
        (WebSocketMessageFilter, "First"),
        (WebSocketMessageFilter, "Second"),
        (WebSocketConnectFilter, "Hello"),
    ):
        body = {"filter": staticmethod(lambda instance, data: None), "__module__": "chat"}
        type(name, (chain,), body)
    (tmp_path / "fws.json").write_text("{}")
    lines = describe(["::1"], "-c", str(tmp_path / "fws.json"))
    assert list(lines) == ["fws_server", "open to", "connect", "message", "storage", "config"]
    assert lines["message"] == "chat.First | chat.Second"
    assert lines["connect"] == "chat.Hello"
    assert lines["storage"] == "filtered_websocket.storage_objects.default.StorageObject"
    assert lines["config"] == str(tmp_path / "fws.json")
