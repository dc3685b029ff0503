"""What a service manager hears and hands over; the whole is tested with the real process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from filtered_websocket.operation import systemd
from filtered_websocket.operation.systemd import (
    STATUS_BEATS,
    ServiceManager,
    activated_sockets,
)
from filtered_websocket.typing import StartError


@pytest.fixture(params=["path", "abstract"])
def receiver(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket on which a service manager hears."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("notify" if request.param == "path" else "")  # "" lets the kernel choose a name
        sock.setblocking(False)
        yield sock


def environment(receiver: socket.socket, **more: str) -> dict[str, str]:
    address = receiver.getsockname()
    if isinstance(address, bytes):
        address = "@" + address[1:].decode()
    return {"NOTIFY_SOCKET": address, "HOME": "/", **more}


def heard(receiver: socket.socket) -> list[str]:
    """Return all datagrams that have come."""
    found = []
    while True:
        try:
            found.append(receiver.recv(1000).decode())
        except BlockingIOError:
            return found


def test_each_state_is_told(receiver: socket.socket) -> None:
    """Ready and stopping are told once, with the number of clients."""
    manager = ServiceManager(environment(receiver), lambda: 1234)
    manager.ready()
    manager.stopping()
    manager.close()
    manager.stopping()
    assert heard(receiver) == [
        "READY=1\nSTATUS=serving, 1,234 clients",
        "STOPPING=1\nSTATUS=draining, 1,234 clients",
    ]


@pytest.mark.parametrize(
    ("variables", "is_fed"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "2000000"}, True),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, False),
    ],
)
def test_the_watchdog_hears_each_beat(
    receiver: socket.socket, variables: dict[str, str], is_fed: bool
) -> None:
    """Where there is one for this process; the status is told now and then in any case."""
    manager = ServiceManager(environment(receiver, **variables), lambda: 5)
    for _ in range(STATUS_BEATS):
        manager.beat(0.0)
    manager.close()
    told = heard(receiver)
    assert told.count("WATCHDOG=1") == is_fed * STATUS_BEATS
    assert told[-1] == "STATUS=serving, 5 clients"


def test_variables_are_for_this_process_alone(receiver: socket.socket) -> None:
    """What filters start does not speak for the server."""
    variables = environment(receiver, WATCHDOG_USEC="1", WATCHDOG_PID="1")
    ServiceManager(variables, int).close()
    assert variables == {"HOME": "/"}


def test_without_a_service_manager_nobody_is_told() -> None:
    """A start in a terminal does nothing of this."""
    manager = ServiceManager({}, lambda: pytest.fail("nobody asks"))
    manager.close()


def test_a_service_manager_that_is_gone_is_no_error(receiver: socket.socket) -> None:
    """The server goes on when nobody hears it."""
    manager = ServiceManager(environment(receiver), int)
    receiver.close()
    manager.ready()
    manager.close()


# Sockets


@pytest.fixture
def as_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket that counts as the first of those passed on."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", sock.fileno())
    yield sock
    sock.close()


def variables(count: str = "1", pid: str | None = None) -> dict[str, str]:
    pid = str(os.getpid()) if pid is None else pid
    return {"LISTEN_FDS": count, "LISTEN_PID": pid, "LISTEN_FDNAMES": "a"}


def test_a_socket_is_taken_over(as_first: socket.socket) -> None:
    """It is the same one, ready for the event loop, and not for what filters start."""
    as_first.listen()
    as_first.set_inheritable(True)
    environ = variables()
    (taken,) = activated_sockets(environ)
    assert taken.fileno() == as_first.fileno()
    assert taken.getsockname() == as_first.getsockname()
    assert not taken.getblocking()
    assert not taken.get_inheritable()
    assert environ == {}
    taken.detach()


@pytest.mark.parametrize("environ", [{}, variables("0"), variables("1", "1")])
def test_what_is_not_for_us_is_left_alone(environ: dict[str, str]) -> None:
    """No socket, or one for another process, is none."""
    assert activated_sockets(environ) == []
    assert environ == {}


def test_a_number_that_is_none() -> None:
    """The variable is named."""
    with pytest.raises(StartError, match="^LISTEN_FDS=many is not a number of sockets$"):
        activated_sockets(variables("many"))


def test_a_socket_that_does_not_listen(as_first: socket.socket) -> None:
    """It is named by its descriptor."""
    with pytest.raises(StartError, match=f"^file {as_first.fileno()}, .* that streams can"):
        activated_sockets(variables())
    as_first.detach()  # it was closed


def test_a_file_that_is_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays open and is named."""
    with open(tmp_path / "file", "w") as file:
        monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", file.fileno())
        with pytest.raises(StartError, match="is not a socket: Socket operation on non-socket"):
            activated_sockets(variables())
        file.write("still open")
