"""The life of a server: its start lines. The rest runs in the real process."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket import runner
from filtered_websocket.config import resolve
from filtered_websocket.filters.base import WebSocketConnectFilter, WebSocketMessageFilter
from filtered_websocket.options import default_parser
from filtered_websocket.runner import StartError
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.storage_objects.default import StorageObject


def make_options(*arguments: str) -> Namespace:
    return resolve(default_parser(), arguments, {}).options


@pytest.mark.parametrize(("given", "missing"), [("-key", "-cert"), ("-cert", "-key")])
def test_half_a_pair(given: str, missing: str) -> None:
    """TLS needs both files; one alone is an error that names the other."""
    with pytest.raises(StartError, match=f"^{given} was given without {missing}: TLS needs both$"):
        runner._certificate(make_options(given, "file.pem"))


def test_no_tls_without_files() -> None:
    """Neither key nor certificate means plain HTTP."""
    assert runner._certificate(make_options()) is None


# What the operator sees


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
        return runner._description(
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


def test_a_storage_that_cannot_be_made(empty_chains: None) -> None:
    """What a storage object raises at its start is told in one line, with its name."""

    class StorageObject:
        def __init__(self, options: Namespace) -> None:
            raise OSError("no disk")

    with pytest.raises(StartError, match=r"test_runner\..*StorageObject failed: OSError: no disk$"):
        runner.run(make_options("-p", "0"), StorageObject)


def test_a_check_makes_the_storage_and_listens_to_nobody(empty_chains: None) -> None:
    """What a start makes is made in an event loop; the port is not looked at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = make_options("-p", str(taken.getsockname()[1]))

        class Storage(StorageObject):
            def __init__(self, options: Namespace) -> None:
                super().__init__(options)
                self.loop = asyncio.get_running_loop()

        storage = runner.check(options, Storage)
    assert isinstance(storage, Storage)
    assert storage.loop.is_closed()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-key", "file.pem"],
        ["-key", "gone.pem", "-cert", "gone.pem"],
        ["--origins", "chat.example"],
        ["--host", "no.such.host.invalid"],
        ["--host", "127.0.0.1", "--unix_socket", "s"],
    ],
)
def test_a_check_finds_what_a_start_does(empty_chains: None, arguments: list[str]) -> None:
    """It fails with the words of the start."""
    errors = []
    for do in (runner.check, runner.run):
        with pytest.raises(StartError) as error:
            do(make_options("-p", "0", *arguments), StorageObject)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_origins_that_are_none(empty_chains: None) -> None:
    """A bad entry of --origins is found at the start."""
    with pytest.raises(StartError, match="--origins: 'chat' is not an origin"):
        runner._origin_policy(make_options("--origins", "chat"), [])


@pytest.mark.parametrize(
    ("family", "allowed"),
    [(socket.AF_INET, False), (socket.AF_INET6, False), (socket.AF_UNIX, True)],
)
def test_public_pages_through_a_proxy(family: socket.AddressFamily, allowed: bool) -> None:
    """On loopback alone they may not connect; behind a Unix socket is a proxy that serves them."""

    class Listening(FakeSocket):
        def __init__(self) -> None:
            super().__init__("127.0.0.1")
            self.family = family

    sockets: Any = [Listening()]
    policy = runner._origin_policy(make_options(), sockets)
    assert policy.allows("https://chat.example", "chat.example") is allowed


# What must not end in a traceback


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ConnectionResetError(), logging.DEBUG),
        (ConnectionResetError, logging.DEBUG),
        (TimeoutError(), logging.DEBUG),
        (ssl.SSLError(), logging.DEBUG),
        (OSError(errno.EMFILE, "Too many open files"), logging.ERROR),
        (ValueError(), logging.ERROR),
    ],
)
async def test_what_the_event_loop_reports(
    error: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """How peers break connections is for debugging; what the server lacks is an error."""
    caplog.set_level(logging.DEBUG, "filtered_websocket")
    loop = asyncio.get_running_loop()
    runner._log_loop_error(loop, {"message": "it failed", "exception": error})
    assert [record.levelno for record in caplog.records] == [level]
