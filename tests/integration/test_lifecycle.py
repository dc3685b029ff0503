"""The life of the server process: where it listens, what it prints, how it stops."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..process import DEADLINE, ServerProcess, wait_until, with_close_timeout

Start = Callable[..., ServerProcess]

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT]

LEAVING = """\
from filtered_websocket.filters.base import WebSocketDisconnectFilter

class Leaving(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", web_socket_instance.id, flush=True)
"""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


SLOW_IMPORT = """\
import os, pathlib, time

pathlib.Path("importing").touch()
while not os.path.exists("go on"):
    time.sleep(0.005)
"""


def connect_deaf(server: ServerProcess) -> socket.socket:
    """Return an open WebSocket whose client never answers, and so never leaves."""
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
    sock.sendall(HANDSHAKE)
    with sock.makefile("rb", buffering=0) as answer:
        while answer.readline().strip():
            pass
    return sock


def is_reachable(address: str, port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection((address, port), timeout=5):
        return True
    return False


def can_listen(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.create_server((address, 0), family=family):
        return True
    return False


# Where it listens


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_loopback_addresses_are_open(start_server: Start, address: str) -> None:
    """Without --host the server listens on IPv4 and IPv6 loopback, on the same port."""
    if not can_listen(address):
        pytest.skip(f"this machine has no {address}")
    server = start_server()
    host = f"[{address}]" if ":" in address else address
    with connect(f"ws://{host}:{server.port}/") as client:
        client.send("hello")
        wait_until(lambda: " => hello\n" in server.stdout, "the message")


def test_other_addresses_are_closed_without_host(start_server: Start) -> None:
    """Without --host no other address of the machine reaches the server, and the log says so."""
    server = start_server()
    assert not is_reachable("127.0.0.2", server.port)
    assert "open to: this machine only; --host '*' lets others in" in server.stderr


@pytest.mark.parametrize(
    ("host", "open_to", "closed_to"),
    [("127.0.0.2", ["127.0.0.2"], ["127.0.0.1"]), ("*", ["127.0.0.1", "127.0.0.2"], [])],
)
def test_host_chooses_the_address(
    start_server: Start, host: str, open_to: list[str], closed_to: list[str]
) -> None:
    """--host takes one address, or * for all of them."""
    server = start_server("--host", host)
    for address in open_to:
        with connect(f"ws://{address}:{server.port}/"):
            pass
    assert not any(is_reachable(address, server.port) for address in closed_to)


def test_port_zero_takes_a_free_one(start_server: Start) -> None:
    """Two servers with -p 0 run beside each other, each on the port that its start line names."""
    servers = [start_server("-p", "0", port=None) for _ in range(2)]
    assert servers[0].port != servers[1].port
    for server in servers:
        with connect(server.url):
            pass


# What it prints


def test_piped_start_is_plain_log_lines(start_server: Start) -> None:
    """When stderr is no terminal, each start line is a log line with time and level."""
    server = start_server("-f", "broadcast_messages")
    assert server.port
    assert server.stop() == 0
    lines = [
        re.sub(r"^\d{4}-\d\d-\d\d \S+ INFO \S+ ", "", line) for line in server.stderr.splitlines()
    ]
    assert [line.partition(":")[0] for line in lines] == [
        *("fws_server", "open to", "message", "storage", "room for", "stopping", "stopped")
    ]
    assert "broadcast_messages.BroadcastMessagesFilter" in lines[2]
    assert "storage_objects.default.StorageObject" in lines[3]


FEW_FILES = """
import resource, sys

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))

from filtered_websocket.cli import main

sys.exit(main())
"""


def test_the_start_tells_how_many_clients_fit(start_server: Start) -> None:
    """The soft limit on open files does not count, since the server raises it."""
    server = start_server("--max_connections", "200", command=("-c", FEW_FILES))
    assert server.port
    wait_until(lambda: "room for: 200 clients (--max_connections)\n" in server.stderr)
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    soft, hard, _ = limits.partition("Max open files")[2].split(maxsplit=2)
    assert soft == hard
    assert server.stop() == 0
    assert "WARNING" not in server.stderr


def test_the_start_warns_of_more_clients_than_fit(start_server: Start) -> None:
    """A billion clients are more than any machine has memory for."""
    server = start_server("--max_connections", "1000000000")
    assert server.port
    assert server.stop() == 0
    assert re.search(
        r"WARNING \S+ --max_connections 1000000000 needs \d+\.\d GiB for idle clients alone, and "
        r"the \w+ has \d+\.?\d* [GM]iB: choose at most \d+, or the server may be killed\n",
        server.stderr,
    )


def test_terminal_start_is_a_few_aligned_lines(tmp_path: Path) -> None:
    """On a terminal the start prints name and value in two columns, and then nothing."""
    (tmp_path / "config.toml").write_text("port = 0\n")
    terminal, tty = pty.openpty()
    with open(terminal, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "filtered_websocket", "-c", "config.toml"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=tty,
            stderr=tty,
        )
        os.close(tty)
        try:
            shown = b""
            while b"room for" not in shown:
                shown += screen.read(1000)
            process.terminate()
            with suppress(OSError):  # how a terminal says that its last user has gone
                while chunk := screen.read(1000):
                    shown += chunk
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            process.wait()
    *lines, _stopping, _stopped = shown.decode().splitlines()
    columns = [re.fullmatch(r" *(\S.*?)  (\S.*)", line) for line in lines]
    names = [column[1] for column in columns if column]
    assert names == ["fws_server", "open to", "message", "storage", "config", "room for"]
    assert len({column.start(2) for column in columns if column}) == 1
    assert re.search(r"  http://localhost:\d+/$", lines[0])
    assert re.search(r"BroadcastMessagesFilter \| \S+StdoutMessageFilter$", lines[2])
    assert lines[4].endswith("  config.toml")


def test_stdout_has_what_filters_print_at_once(start_server: Start) -> None:
    """A message is on stdout while the server runs, and nothing else ever is."""
    server = start_server("-f", "stdout_messages", environ={"PYTHONUNBUFFERED": ""})
    with connect(server.url) as client:
        client.send("grüße 🎈")
        wait_until(lambda: server.stdout.endswith("\n"), "the message")
    assert server.stop() == 0
    assert re.fullmatch(r"--MESSAGE--\n[0-9a-f-]{36} => grüße 🎈\n", server.stdout)


# How it stops


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("definition", ["def", "async def"])
def test_signal_closes_clients_and_runs_the_disconnect_chain(
    start_server: Start, tmp_path: Path, definition: str, number: signal.Signals
) -> None:
    """Clients get 1001, each leaves once, who was never open does not; the exit code is 0."""
    (tmp_path / "leaving.py").write_text(LEAVING.replace("def", definition))
    server = start_server("-f", "leaving")
    with (
        closing(socket.create_connection(("127.0.0.1", server.port))),  # never asks to be open
        connect(server.url) as a,
        connect(server.url) as b,
    ):
        with connect(server.url):
            pass
        wait_until(lambda: server.stdout.count("left ") == 1, "the client that leaves early")
        server.process.send_signal(number)
        for client in (a, b):
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
    assert server.wait() == 0
    ids = re.findall(r"^left (\S+)$", server.stdout, re.MULTILINE)
    assert len(ids) == len(set(ids)) == 3
    assert "Traceback" not in server.stderr and "cut off" not in server.stderr


def test_client_that_does_not_leave_is_cut_off(start_server: Start, tmp_path: Path) -> None:
    """A client that does not answer the close keeps the server for the close timeout only."""
    (tmp_path / "leaving.py").write_text(LEAVING)
    server = start_server(
        "-f", "leaving", "--drain_seconds", "600", command=with_close_timeout(0.1)
    )
    with connect_deaf(server) as deaf:
        assert server.stop() == 0
        with suppress(ConnectionResetError):
            while deaf.recv(100):
                pass
    assert server.stdout.count("left ") == 1
    assert "cut off 1 client that did not answer within 0.1 s" in server.stderr


@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_second_signal_ends_at_once(start_server: Start, second: signal.Signals) -> None:
    """While it waits for its clients the server takes no new ones; a second signal ends it."""
    server = start_server("--drain_seconds", "600", command=with_close_timeout(600))
    with connect_deaf(server):
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_reachable("127.0.0.1", server.port), "the end of accepting")
        assert server.process.poll() is None

        def has_ended() -> bool:
            # Again and again: one that comes within milliseconds counts as the first.
            server.process.send_signal(second)
            return server.process.poll() is not None

        wait_until(has_ended, "the end")
        assert server.wait() == -second
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_server_without_clients_stops_on_a_signal(
    start_server: Start, number: signal.Signals
) -> None:
    """Nobody to wait for: the exit code is 0, and the port is free again."""
    server = start_server()
    port = server.port
    server.process.send_signal(number)
    assert server.wait() == 0
    assert start_server(port=port).port == port


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_for_running_servers_spares_one_that_starts(
    start_server: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """What `pkill` sends to all servers does not end the one whose filters are being imported."""
    (tmp_path / "slow_import.py").write_text(SLOW_IMPORT + LEAVING)
    server = start_server("-f", "slow_import")
    wait_until((tmp_path / "importing").exists, "the import")
    server.process.send_signal(number)
    (tmp_path / "go on").touch()
    with connect(server.url):
        pass
    assert server.stop() == 0
