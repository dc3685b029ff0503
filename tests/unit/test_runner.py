"""The life of a server: its sockets, TLS and start lines. The rest runs in the real process."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from filtered_websocket import runner
from filtered_websocket.config import resolve
from filtered_websocket.filters.base import WebSocketConnectFilter, WebSocketMessageFilter
from filtered_websocket.options import default_parser
from filtered_websocket.runner import StartError, open_sockets
from filtered_websocket.server import FilteredWebSocketFactory


def make_options(*arguments: str) -> Namespace:
    return resolve(default_parser(), arguments, {})[0]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


def open_all(opened: ExitStack, host: str | None = None, port: int = 0) -> list[tuple[Any, ...]]:
    """Open sockets; return address and port of each."""
    sockets = [opened.enter_context(closing(sock)) for sock in open_sockets(host, port)]
    return [sock.getsockname()[:2] for sock in sockets]


# Sockets


def test_loopback_in_both_families_on_one_port(opened: ExitStack) -> None:
    """Without a host it is this machine only, IPv4 and IPv6, also for a free port."""
    (v4, port), (v6, port_6) = open_all(opened)
    assert (v4, v6) == ("127.0.0.1", "::1")
    assert port == port_6 != 0


def test_a_free_port_is_free_in_both_families(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program has the chosen port in the other family, the next one is tried."""
    bind, taken = runner._bind, []

    def bind_unless_taken(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family == socket.AF_INET6 and not taken:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bind(family, address, port)

    monkeypatch.setattr(runner, "_bind", bind_unless_taken)
    (_, port), (_, port_6) = open_all(opened)
    assert port == port_6 != 0
    assert taken


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("127.0.0.1", {"127.0.0.1"}), ("::1", {"::1"})],
)
def test_a_host_of_ones_own(host: str, addresses: set[str], opened: ExitStack) -> None:
    """An address is listened on alone."""
    assert {address for address, _ in open_all(opened, host)} == addresses


def test_a_star_means_all_addresses() -> None:
    """`*` is every address of the machine, in both families."""
    assert [address for _, address in runner._addresses("*")] == ["0.0.0.0", "::"]


def test_a_machine_without_ipv6(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it listens on IPv4 alone."""
    bind = runner._bind

    def bind_v4(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bind(family, address, port)

    monkeypatch.setattr(runner, "_bind", bind_v4)
    assert [address for address, _ in open_all(opened)] == ["127.0.0.1"]


@pytest.mark.parametrize(("family", "address"), [("v4", "127.0.0.1"), ("v6", "::1")])
def test_a_port_in_use(family: str, address: str, opened: ExitStack) -> None:
    """The error names address and port and says what to do; no socket stays open."""
    ((_, port),) = open_all(opened, address)
    shown = f"[{address}]:{port}" if family == "v6" else f"{address}:{port}"
    with pytest.raises(StartError) as error:
        open_sockets(None, port)
    assert str(error.value) == (
        f"cannot listen on {shown}: the port is in use; "
        "stop the other server or choose a port with -p"
    )
    other = "::1" if family == "v4" else "127.0.0.1"
    open_all(opened, other, port)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "ports below 1024 need privileges; choose a higher one with -p"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address"),
    ],
)
def test_an_address_that_is_refused(
    number: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses to bind is told with its reason, and what now."""

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        raise OSError(number, "Cannot assign requested address")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(StartError) as error:
        open_sockets("127.0.0.1", 80)
    assert str(error.value) == f"cannot listen on 127.0.0.1:80: {expected}"


def test_a_host_that_is_none() -> None:
    """A name that does not resolve is named in the error."""
    with pytest.raises(StartError, match=r"cannot listen on --host no such host: "):
        open_sockets("no such host", 0)


# TLS


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, its certificate, the key encrypted, another key, and rubbish."""
    folder = tmp_path_factory.mktemp("tls")
    leaf, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    other.private_key_pem.write_to_path(folder / "other.pem")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    (folder / "encrypted.pem").write_bytes(encrypted)
    (folder / "rubbish.pem").write_bytes(b"\xffrubbish")
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(tls_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tls_files)
    monkeypatch.delenv("FWS_KEY_PASSWORD", raising=False)


def test_no_tls_without_files() -> None:
    """Neither key nor certificate means plain HTTP."""
    assert runner._tls_context(make_options()) is None


@pytest.mark.parametrize(
    ("key", "password"), [("key.pem", None), ("key.pem", "x"), ("encrypted.pem", "open sesame")]
)
def test_a_pair_makes_a_context(
    key: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.2 at least; an encrypted key's password comes from the environment."""
    if password is not None:
        monkeypatch.setenv("FWS_KEY_PASSWORD", password)
    context = runner._tls_context(make_options("-key", key, "-cert", "cert.pem"))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


ENCRYPTED = (
    "-key encrypted.pem is encrypted, and FWS_KEY_PASSWORD is not set: it needs the password"
)
NO_PEM = "-key {} and -cert {} are not a key and a certificate in PEM"


@pytest.mark.parametrize(
    ("key", "cert", "expected"),
    [
        ("key.pem", None, "-key was given without -cert: TLS needs both"),
        (None, "cert.pem", "-cert was given without -key: TLS needs both"),
        ("nothing.pem", "cert.pem", "-key nothing.pem: No such file or directory"),
        ("key.pem", "nothing.pem", "-cert nothing.pem: No such file or directory"),
        (".", "cert.pem", "-key .: Is a directory"),
        ("other.pem", "cert.pem", "-key other.pem is not the key of -cert cert.pem"),
        ("encrypted.pem", "cert.pem", ENCRYPTED),
        ("rubbish.pem", "cert.pem", NO_PEM.format("rubbish.pem", "cert.pem")),
        ("key.pem", "rubbish.pem", NO_PEM.format("key.pem", "rubbish.pem")),
        ("cert.pem", "key.pem", NO_PEM.format("cert.pem", "key.pem")),
        ("encrypted.pem", "rubbish.pem", NO_PEM.format("encrypted.pem", "rubbish.pem")),
    ],
)
def test_a_pair_that_cannot_be_used(key: str | None, cert: str | None, expected: str) -> None:
    """One line names the files as they were given, and what is wrong with them."""
    arguments = [*(["-key", key] if key else []), *(["-cert", cert] if cert else [])]
    with pytest.raises(StartError) as error:
        runner._tls_context(make_options(*arguments))
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("password", ["wrong", "x" * 2000])
def test_a_wrong_password(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that names the variable, not the password."""
    monkeypatch.setenv("FWS_KEY_PASSWORD", password)
    with pytest.raises(StartError, match="FWS_KEY_PASSWORD") as error:
        runner._tls_context(make_options("-key", "encrypted.pem", "-cert", "cert.pem"))
    assert password not in str(error.value)


# What the operator sees


class FakeSocket:
    """A socket that is bound to an address which a test must not open."""

    def __init__(self, address: str) -> None:
        self.address = address

    def getsockname(self) -> tuple[str, int]:
        return self.address, 9000


def describe(addresses: Sequence[str], *arguments: str) -> dict[str, str]:
    """Return the start lines by name."""

    async def main() -> list[tuple[str, str]]:
        sockets: Any = [FakeSocket(address) for address in addresses]
        options = make_options(*arguments)
        return runner._description(options, sockets, FilteredWebSocketFactory())

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


def test_origins_that_are_none(empty_chains: None) -> None:
    """A bad entry of --origins is found at the start."""
    with pytest.raises(StartError, match="--origins: 'chat' is not an origin"):
        runner._origin_policy(make_options("--origins", "chat"), [])


# What must not end in a traceback


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "a\0b"], ids=["long", "dots", "NUL"])
def test_a_host_that_no_name_can_be(host: str) -> None:
    """What cannot even be looked up is named like a host that is not there."""
    with pytest.raises(StartError) as error:
        open_sockets(host, 0)
    assert str(error.value).startswith(f"cannot listen on --host {host}: ")


@pytest.mark.parametrize("option", ["-key", "-cert"])
def test_a_path_that_no_file_can_have(option: str) -> None:
    """A NUL byte in a path, which a config file can hold, is told of with its option."""
    files = {"-key": "key.pem", "-cert": "cert.pem"} | {option: "a\0b"}
    with pytest.raises(StartError, match=f"{option} a\0b: embedded null byte"):
        runner._tls_context(make_options(*(word for pair in files.items() for word in pair)))


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
