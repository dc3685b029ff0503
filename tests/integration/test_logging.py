"""What an operator reads of a running server."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from ..process import DEADLINE, ServerProcess, told, wait_until
from .test_event_loops import LOOPS
from .wire import BINARY, CLOSE, TEXT, Peer, Start, ask, frame, head, save_filters

FILTERS = """
import logging

log = logging.getLogger(__name__)

class Door(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        web_socket_instance.token = request.query.get("token")
        if "refuse" in request.query:
            raise RejectHandshake(403, f"no entry with {request.query['token']}")

class Sync(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        log.info("sync")
        if msg == b"token":
            raise PermissionError(f"not with {web_socket_instance.token}")
        if msg.startswith(b"fail"):
            raise ValueError(msg)
        if msg == b"task":
            web_socket_instance.state["task"] = asyncio.get_running_loop().create_task(
                task(web_socket_instance, bytes(msg) * 3)
            )
        if msg == b"forget":
            ignored = asyncio.get_running_loop().create_task(forgotten(web_socket_instance))
            web_socket_instance.state["ignored"] = ignored
        if msg == b"collect":
            web_socket_instance.users[next(iter(web_socket_instance.users))].state.clear()
        if msg == b"say":
            log.warning("one\\n2026-01-01 00:00:00.000 ERROR forged \\x1b[2J")

async def forgotten(client):
    log.info("of a task")
    await asyncio.to_thread(in_thread, client)
    raise LookupError

def in_thread(client):
    log.info("of a thread")

async def task(web_socket_instance, msg):
    web_socket_instance.state.clear()
    raise ValueError(msg.decode())
"""
ASYNC = """
import logging

class Async(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(0)
        logging.info("async")
        web_socket_instance.sendMessage(str(web_socket_instance.id))
"""
SECRETS = {"Cookie": "sid=c00kie-value", "Authorization": "Bearer b3arer-value"}
TARGET = "/?token=t0ken-value"


def objects(server: ServerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.stderr.splitlines()]


def shake_hands(peer: Peer, target: str = TARGET) -> Peer:
    peer.send(head(target, **SECRETS))
    assert peer.read_answer().status == 101
    return peer


def say_goodbye(peer: Peer) -> None:
    """Close; when that is done all that was sent before was handled."""
    peer.send(frame(CLOSE, b"\x03\xe8"))
    peer.read_close()


def test_the_lines_of_filters_carry_their_connection(start_server: Start, tmp_path: Path) -> None:
    """Sync and async ones, that log with the plain module; the id is the one that they see."""
    save_filters(tmp_path, "chat", FILTERS)
    save_filters(tmp_path, "slow", ASYNC)
    server = start_server("-f", "chat", "slow", "--log_format", "json")
    ids = set()
    for _ in range(2):
        with Peer(server.port) as peer:
            shake_hands(peer).send(frame(TEXT, b"hello"))
            ids.add(peer.read_frame().payload.decode())
            say_goodbye(peer)
    assert server.stop() == 0
    assert len(ids) == 2
    for logger, event, name in (("chat", "sync", "chat.Sync"), ("root", "async", "slow.Async")):
        lines = [line for line in objects(server) if line["logger"] == logger]
        assert {line["connection"] for line in lines} == ids
        assert {(line["event"], line["peer"], line["filter"]) for line in lines} == {
            (event, "127.0.0.1", name)
        }


def test_the_lines_of_tasks_and_threads_carry_the_connection_that_started_them(
    start_server: Start, tmp_path: Path
) -> None:
    """Also the failure that Python only tells in the chain of another connection."""
    save_filters(tmp_path, "chat", FILTERS)
    save_filters(tmp_path, "slow", ASYNC)
    server = start_server("-f", "chat", "slow", "--log_format", "json")
    with Peer(server.port) as starter, Peer(server.port) as other:
        shake_hands(starter).send(frame(TEXT, b"forget"))
        id = starter.read_frame().payload.decode()
        wait_until(lambda: "of a thread" in server.stderr, "the thread")
        shake_hands(other)
        while "never retrieved" not in server.stderr:  # when the task has ended
            other.send(frame(TEXT, b"collect"))
            assert other.read_frame().payload.decode() != id
    assert server.stop() == 0
    for event in ("of a task", "of a thread", "Task exception was never retrieved"):
        (line,) = [line for line in objects(server) if line["event"] == event]
        assert (line["connection"], line["peer"]) == (id, "127.0.0.1")
        assert "filter" not in line


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("format", ["text", "json"])
def test_no_secret_is_shown_above_debug(
    start_server: Start, tmp_path: Path, format: str, level: str
) -> None:
    """Of messages, token, query, cookie and credentials nothing is in the log, or, at debug, is."""
    save_filters(tmp_path, "chat", FILTERS)
    server = start_server("-f", "chat", "--log_format", format, "--log_level", level)
    assert ask(server.port, head(TARGET + "&refuse=1", **SECRETS)).status == 403
    ask(server.port, head(TARGET, Sec_WebSocket_Key=None, **SECRETS))
    with Peer(server.port) as peer:
        shake_hands(peer)
        for payload in (b"fail with payload-one", b"token", b"task"):
            peer.send(frame(TEXT, payload))
        say_goodbye(peer)
    assert server.stop() == 0
    shown = server.stderr
    assert told(shown, "PermissionError") or format == "json"
    assert "tasktasktask" in shown or level == "info"
    for secret in ("t0ken-value", "payload-one"):
        assert (secret in shown) == (level == "debug")
    assert not re.search("c00kie|b3arer|token=", shown)
    assert "tasktasktask" not in shown or level == "debug"


@pytest.mark.slow
def test_a_failing_filter_is_told_once_a_second_and_counted(
    start_server: Start, tmp_path: Path
) -> None:
    """Of a flood of errors the log has one traceback, then a number; none goes uncounted."""
    save_filters(
        tmp_path,
        "failing",
        """
class Failing(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"other":
            raise LookupError
        raise ValueError(msg)
""",
    )
    server = start_server("-f", "failing")
    with Peer(server.port) as peer:
        peer.open()
        for _ in range(20):
            peer.send(frame(TEXT, b"fail") * 200)
        peer.send(frame(TEXT, b"other"))
        say_goodbye(peer)
        wait_until(lambda: told(server.stderr, "Failing failed: ValueError") == 4000, "the count")
    assert server.stop() == 0
    assert told(server.stderr, "Failing failed: ValueError") == 4000
    assert told(server.stderr, "Failing failed: LookupError") == 1
    assert server.stderr.count("Traceback") == 2
    assert len(server.stderr.splitlines()) < 40


def test_what_is_left_out_is_told_at_the_end(start_server: Start, tmp_path: Path) -> None:
    """A server that is stopped within the second says how many there were."""
    save_filters(tmp_path, "chat", FILTERS)
    server = start_server("-f", "chat")
    with Peer(server.port) as peer:
        shake_hands(peer).send(frame(TEXT, b"fail") * 50)
        say_goodbye(peer)
    assert server.stop() == 0
    assert told(server.stderr, "chat.Sync failed: ") == 50


def test_each_line_is_one_line(start_server: Start, tmp_path: Path) -> None:
    """Nobody forges one, in text or JSON."""
    save_filters(tmp_path, "chat", FILTERS)
    for format in ("text", "json"):
        server = start_server("-f", "chat", "--log_format", format)
        with Peer(server.port) as peer:
            shake_hands(peer).send(frame(TEXT, b"say"))
            say_goodbye(peer)
        assert server.stop() == 0
        assert not [line for line in server.stderr.splitlines() if line.startswith("2026-01-01")]
        assert "\x1b" not in server.stderr
    assert "one\n2026-01-01 00:00:00.000 ERROR forged \x1b[2J" in [
        line["event"] for line in objects(server)
    ]


def test_openings_and_ends_are_told(start_server: Start) -> None:
    """At debug each, with id, peer and code; at info those for which the server has a reason."""
    for level in ("debug", "info"):
        server = start_server("-f", "--log_format", "json", "--log_level", level)
        with Peer(server.port) as peer:
            say_goodbye(peer.open())
        with Peer(server.port) as peer:
            peer.open(frame(BINARY, b"", masked=False))
            assert peer.read_close() == 1002
        with Peer(server.port) as peer:
            peer.open(frame(TEXT, b"\xff"))
            assert peer.read_close() == 1007
        with Peer(server.port) as peer:
            peer.open().reset()
        assert server.stop() == 0
        lines = [line for line in objects(server) if "connection" in line]
        assert all(line["peer"] == "127.0.0.1" for line in lines)
        by_id: dict[str, list[str]] = {}
        for line in lines:
            by_id.setdefault(line["connection"], []).append(line["event"])
        ended = [[event for event in events if "ended" in event] for events in by_id.values()]
        if level == "debug":
            assert [(events[0], events[-1]) for events in by_id.values()] == [
                ("open", "closed with 1000 by the client"),
                ("open", "closed with 1002 by the server"),
                ("open", "closed with 1007 by the server"),
                ("open", "closed with 1006 by the client"),
            ]
            ended = ended[1:3]
        (first,), (second,) = ended
        assert first.startswith("ended with 1002: ") and second.startswith("ended with 1007: ")


def test_a_silent_and_a_slow_client_are_told(start_server: Start, tmp_path: Path) -> None:
    """The operator sees which connection was ended for what."""
    save_filters(
        tmp_path,
        "flood",
        """
class Flood(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        for _ in range(200):
            web_socket_instance.sendMessage(bytes(100_000))
""",
    )
    server = start_server(
        *("-f", "flood", "--ping_interval", "0.1", "--ping_timeout", "0.1"),
        *("--max_queue_bytes", "100000"),
    )
    with Peer(server.port) as silent, Peer(server.port, read_buffer=4096) as slow:
        silent.open()
        wait_until(lambda: "ended with 1011: no answer to a ping" in server.stderr, "the silent")
        slow.open(frame(TEXT, b"more"))
        wait_until(lambda: "ended with 1013: too slow" in server.stderr, "the slow")
    assert server.stop() == 0


# Where it goes


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    yield port


@pytest.mark.parametrize("redirection", ["2>/dev/full", ">/dev/full 2>/dev/full", "2>&1 | true"])
def test_a_full_disk_or_a_closed_pipe_is_no_obstacle(
    start_server: Start, tmp_path: Path, free_port: int, redirection: str
) -> None:
    """The server serves, fails nothing, and ends with exit code 0."""
    save_filters(tmp_path, "chat", FILTERS)
    shell = (
        "import os, sys\n"
        "script = '(\"$@\"; echo $? > code) ' + " + repr(redirection) + "\n"
        "command = [sys.executable, '-m', 'filtered_websocket', *sys.argv[1:]]\n"
        "os.execvp('sh', ['sh', '-c', script, 'sh', *command])\n"
    )
    save_filters(
        tmp_path,
        "stop",
        """
class Stop(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
        if msg == b"stop":
            os.kill(os.getpid(), 15)
""",
    )
    server = start_server(
        "-f", "stop", "chat", "stdout_messages", port=free_port, command=("-c", shell)
    )

    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", free_port)) == 0

    wait_until(is_listening, "the start")
    with Peer(free_port) as client:
        shake_hands(client)
        for payload in [b"fail", b"hello"] * 100 + [b"stop"]:
            client.send(frame(TEXT, payload))
            assert client.read_frame().payload == payload
        assert client.read_close() == 1001
    wait_until(lambda: (tmp_path / "code").exists() and (tmp_path / "code").read_text(), "the end")
    assert (tmp_path / "code").read_text() == "0\n"
    server.wait()
    assert "Exception ignored" not in server.stderr


@pytest.mark.parametrize(("argument", "code"), [("-h", 0), ("--nonsense", 2)])
def test_a_start_that_cannot_say_a_word(argument: str, code: int, tmp_path: Path) -> None:
    """What it would print is lost on a full disk, but not the exit code."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "filtered_websocket", argument]
        ended = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=full, timeout=DEADLINE)
    assert ended.returncode == code


def test_a_terminal_is_coloured(tmp_path: Path) -> None:
    """Unless NO_COLOR says otherwise."""
    for environ, colour in (({}, b"\x1b[32m"), ({"NO_COLOR": "1"}, b"")):
        terminal, tty = pty.openpty()
        with open(terminal, "rb", buffering=0) as screen:
            process = subprocess.Popen(
                [sys.executable, "-m", "filtered_websocket", "-p", "0", "-f"],
                cwd=tmp_path,
                env=os.environ | {"TERM": "xterm"} | environ,
                stdin=subprocess.DEVNULL,
                stdout=tty,
                stderr=tty,
            )
            os.close(tty)
            try:
                shown = b""
                while b"StorageObject" not in shown:
                    shown += screen.read(1000)
                process.terminate()
                with suppress(OSError):  # how a terminal says that its last user has gone
                    while chunk := screen.read(1000):
                        shown += chunk
                assert process.wait(DEADLINE) == 0
            finally:
                process.kill()
                process.wait()
        assert colour + b"INFO" in shown
        assert (b"\x1b[" in shown) == bool(colour)


BACKGROUND = """
async def ask(error):
    raise error

def later(secret):
    raise ValueError("what is later")

class Background(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        asyncio.create_task(ask(TimeoutError("the database is slow")))
        asyncio.create_task(ask(ConnectionRefusedError("the database is away")))
        asyncio.get_running_loop().call_soon(later, msg.decode())
        web_socket_instance.sendMessage("done")
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_what_filters_do_in_the_background(start_server: Start, tmp_path: Path, loop: str) -> None:
    """How a filter's own connections break is told, unlike those of peers, and never with what a
    callback was given.
    """
    save_filters(tmp_path, "background", BACKGROUND)
    server = start_server("-f", "background", command=LOOPS[loop])
    with connect(server.url) as client:
        client.send("hunter2")
        assert client.recv(timeout=10) == "done"
    wait_until(lambda: "TimeoutError: the database is slow" in server.stderr, "the first line")
    wait_until(lambda: "ConnectionRefusedError: the database is away" in server.stderr, "the next")
    wait_until(lambda: "ValueError: what is later" in server.stderr, "the last line")
    assert server.stop() == 0
    assert "hunter2" not in server.stderr
