"""Where a server listens: ports, addresses and Unix sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket import sockets
from filtered_websocket.sockets import (
    are_loopback,
    authority,
    check_address,
    leave_to_others,
    listening_sockets,
)
from filtered_websocket.typing import StartError


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


def open_all(opened: ExitStack, host: str | None = None, port: int = 0) -> list[tuple[Any, ...]]:
    """Open sockets; return address and port of each."""
    found = opened.enter_context(listening_sockets(host, port))
    return [sock.getsockname()[:2] for sock in found]


def open_none(host: str | None, port: int = 0, unix_socket: str | None = None) -> str:
    """Return why a server cannot listen there."""
    with pytest.raises(StartError) as error, listening_sockets(host, port, unix_socket):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("host", "expected"), [("localhost", "localhost:80"), ("::1", "[::1]:80")])
def test_an_authority(host: str, expected: str) -> None:
    """An IPv6 address stands in brackets."""
    assert authority(host, 80) == expected


def test_an_address_is_checked_without_listening(path: str) -> None:
    """What is wrong with it is told as by a start; a port in use is not looked at."""
    assert [address for _, address in check_address(None)] == ["127.0.0.1", "::1"]
    assert check_address(None, path) == []
    assert not os.path.exists(path)
    for arguments in (("no.such.host.invalid", None), ("127.0.0.1", path)):
        with pytest.raises(StartError) as error:
            check_address(*arguments)
        assert str(error.value) == open_none(arguments[0], 0, arguments[1])


# Ports


def test_loopback_in_both_families_on_one_port(opened: ExitStack) -> None:
    """Without a host it is this machine only, IPv4 and IPv6, also for a free port."""
    (v4, port), (v6, port_6) = open_all(opened)
    assert (v4, v6) == ("127.0.0.1", "::1")
    assert port == port_6 != 0


def test_a_free_port_is_free_in_both_families(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another program has the chosen port in the other family, the next one is tried."""
    bind, taken = sockets._bind, []

    def bind_unless_taken(
        family: socket.AddressFamily, address: str, port: int, shared: bool
    ) -> socket.socket:
        if family == socket.AF_INET6 and not taken:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bind(family, address, port, shared)

    monkeypatch.setattr(sockets, "_bind", bind_unless_taken)
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
    assert [address for _, address in check_address("*")] == ["0.0.0.0", "::"]


def test_a_machine_without_ipv6(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it listens on IPv4 alone."""
    bind = sockets._bind

    def bind_v4(
        family: socket.AddressFamily, address: str, port: int, shared: bool
    ) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bind(family, address, port, shared)

    monkeypatch.setattr(sockets, "_bind", bind_v4)
    assert [address for address, _ in open_all(opened)] == ["127.0.0.1"]


def test_who_can_ask(opened: ExitStack, tmp_path: Path) -> None:
    """Only loopback is this machine alone: behind a Unix socket is a proxy."""

    def only_here(*arguments: object) -> bool:
        return are_loopback(opened.enter_context(listening_sockets(*arguments)))  # type: ignore[arg-type]

    assert only_here(None, 0)
    assert not only_here("*", 0)
    assert not only_here(None, 0, str(tmp_path / "socket"))


@pytest.mark.parametrize(("family", "address"), [("v4", "127.0.0.1"), ("v6", "::1")])
def test_a_port_in_use(family: str, address: str, opened: ExitStack) -> None:
    """The error names address and port and says what to do; no socket stays open."""
    ((_, port),) = open_all(opened, address)
    shown = f"[{address}]:{port}" if family == "v6" else f"{address}:{port}"
    assert open_none(None, port) == (
        f"cannot listen on {shown}: the port is in use; "
        "stop the other server or choose a port with -p"
    )
    with pytest.raises(StartError, match="a port with --metrics_port$"):
        opened.enter_context(
            listening_sockets(address, port, options=("--metrics_host", "--metrics_port"))
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
    assert open_none("127.0.0.1", 80) == f"cannot listen on 127.0.0.1:80: {expected}"


def test_a_host_that_is_none() -> None:
    """A name that does not resolve is named in the error."""
    assert open_none("no such host").startswith("cannot listen on --host no such host: ")


@pytest.mark.parametrize("host", ["a" * 70, "a..b", "a\0b"], ids=["long", "dots", "NUL"])
def test_a_host_that_no_name_can_be(host: str) -> None:
    """What cannot even be looked up is named like a host that is not there."""
    assert open_none(host).startswith(f"cannot listen on --host {host}: ")


# Two servers on one port


def test_a_port_is_shared_by_those_that_say_so(opened: ExitStack) -> None:
    """A second server listens on all addresses of the first; both have to want it."""
    (first, _) = opened.enter_context(listening_sockets(None, 0, shared=True))
    port = first.getsockname()[1]
    second = opened.enter_context(listening_sockets(None, port, shared=True))
    assert {sock.getsockname()[1] for sock in second} == {port}
    assert "the port is in use; stop the other server" in open_none(None, port)


def test_a_port_that_is_not_shared(opened: ExitStack) -> None:
    """The error says what the other server may lack."""
    ((_, port), _) = open_all(opened)
    with pytest.raises(StartError) as error, listening_sockets(None, port, shared=True):
        pass
    assert str(error.value) == (
        f"cannot listen on 127.0.0.1:{port}: the port is in use, "
        "by a server without --reuse_port or of another user"
    )


async def test_new_clients_go_to_the_others(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has begun to connect is accepted; who comes later waits, and then finds another."""
    monkeypatch.setattr(sockets, "HANDOVER", 0.0)
    leaving = opened.enter_context(listening_sockets(None, 0, shared=True))
    place = leaving[0].getsockname()
    early = opened.enter_context(socket.create_connection(place))
    await leave_to_others(leaving)
    late = opened.enter_context(socket.socket())
    late.setblocking(False)
    assert late.connect_ex(place) == errno.EINPROGRESS
    accepted = opened.enter_context(leaving[0].accept()[0])
    assert accepted.getpeername() == early.getsockname()
    accepted.sendall(b"served")  # what was accepted goes on
    assert early.recv(10) == b"served"
    with pytest.raises(BlockingIOError):
        leaving[0].accept()
    # The packet that found nobody is sent again after a second.
    staying = opened.enter_context(listening_sockets(None, place[1], shared=True))
    for sock in leaving:
        sock.close()
    late.setblocking(True)
    staying[0].settimeout(10)
    assert opened.enter_context(staying[0].accept()[0]).getpeername() == late.getsockname()


# Unix sockets


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A short path: the test's folder may be too deep for a Unix socket."""
    monkeypatch.chdir(tmp_path)
    return "fws.sock"


def leave_stale_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)


def test_a_unix_socket_is_open_to_all_and_removed_at_the_end(path: str) -> None:
    """Whatever the umask, its directory alone decides who may connect."""
    umask = os.umask(0o077)
    try:
        with listening_sockets(None, 0, path) as (sock,), socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
            assert not sock.getblocking()
            client.connect(path)
    finally:
        os.umask(umask)
    assert not os.path.lexists(path)


def test_a_stale_unix_socket_is_replaced(path: str) -> None:
    """What a crashed server has left is nobody's."""
    leave_stale_socket(path)
    with listening_sockets(None, 0, path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_unix_socket_in_use_is_left_alone(path: str) -> None:
    """It is an error, also while the backlog of the other server is full."""
    with socket.socket(socket.AF_UNIX) as other, ExitStack() as clients:
        other.bind(path)
        other.listen(0)
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
            assert open_none(None, unix_socket=path) == (
                "cannot listen on --unix_socket fws.sock: "
                "it is in use; stop the other server or choose another path"
            )
    assert stat.S_ISSOCK(os.stat(path).st_mode)


@pytest.mark.parametrize("kind", ["file", "folder", "link to a stale socket", "link to nothing"])
def test_what_is_no_socket_is_never_touched(path: str, kind: str) -> None:
    """Only a socket is ever replaced."""
    if kind == "file":
        Path(path).write_text("precious")
    elif kind == "folder":
        Path(path).mkdir()
    else:
        if kind == "link to a stale socket":
            leave_stale_socket("elsewhere")
        Path(path).symlink_to("elsewhere")
    before = os.lstat(path)
    assert open_none(None, unix_socket=path) == (
        "cannot listen on --unix_socket fws.sock: there is a file, and it is not a socket"
    )
    assert os.lstat(path) == before


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("x" * 120, "AF_UNIX path too long"),
        ("nowhere/fws.sock", "No such file or directory"),
        ("file/fws.sock", "Not a directory"),
        ("", "this is no name of a file"),
        ("folder/", "this is no name of a file"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_path_that_no_socket_can_have(path: str, where: str, reason: str) -> None:
    """One line has the path and the reason."""
    Path("file").touch()
    Path("folder").mkdir()
    assert open_none(None, unix_socket=where) == f"cannot listen on --unix_socket {where}: {reason}"


@pytest.mark.parametrize("stale", [False, True])
def test_a_folder_that_may_not_be_written(
    path: str, stale: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses is told, whether it is to bind or to remove a stale socket."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    if stale:
        leave_stale_socket(path)
        monkeypatch.setattr(os, "unlink", refuse)
    else:
        monkeypatch.setattr(socket.socket, "bind", refuse)
    expected = "cannot listen on --unix_socket fws.sock: Permission denied"
    assert open_none(None, unix_socket=path) == expected


def test_a_host_beside_a_unix_socket(path: str) -> None:
    """A server listens on one or the other."""
    expected = "--host ::1 was given with --unix_socket: choose one of them"
    assert open_none("::1", unix_socket=path) == expected
    assert not os.path.lexists(path)


def test_a_unix_socket_is_taken_over(path: str) -> None:
    """New clients go to the successor, those that wait stay, and the file is the successor's."""
    with (
        socket.socket(socket.AF_UNIX) as early,
        socket.socket(socket.AF_UNIX) as late,
        ExitStack() as second,
    ):
        with listening_sockets(None, 0, path, shared=True) as (old,):
            early.connect(path)
            (new,) = second.enter_context(listening_sockets(None, 0, path, shared=True))
            late.connect(path)
            old.accept()[0].close()
        new.accept()[0].close()
        assert os.listdir(".") == [path]
    assert os.listdir(".") == []


def test_what_is_no_socket_is_not_taken_over(path: str) -> None:
    """A file stays as it is, also where a crash has left the socket of a successor."""
    leave_stale_socket(path + ".new")
    with listening_sockets(None, 0, path, shared=True):
        assert os.listdir(".") == [path]
    Path(path).write_text("precious")
    with pytest.raises(StartError), listening_sockets(None, 0, path, shared=True):
        pass
    assert Path(path).read_text() == "precious"


def test_the_socket_of_a_successor_stays(path: str) -> None:
    """A server removes its own socket, not that of another which has taken the path."""
    with listening_sockets(None, 0, path):
        os.rename(path, "moved")
        leave_stale_socket(path)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
