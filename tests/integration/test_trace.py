"""`--trace`: the way of single messages through a running server."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until
from .wire import WAIT_FOR_GO, save_filters

Start = Callable[..., ServerProcess]

EXAMPLES = Path(__file__).parents[2] / "examples"
BROADCAST = "filtered_websocket.filters.broadcast_messages.BroadcastMessagesFilter"

CAREFUL = """\
class Careful(WebSocketMessageFilter):
    @staticmethod
    def filter(web_socket_instance, msg):
        if msg == b"BAD":
            raise ValueError("not\\nthis")
"""
HELD = (
    WAIT_FOR_GO
    + """\
class Held(WebSocketMessageFilter):
    @staticmethod
    async def filter(web_socket_instance, msg):
        if msg == b"held":
            await wait_for_go()
        web_socket_instance.users.broadcast(msg)
        web_socket_instance.sendMessage("done")
"""
)
ECHO_ITEMS = """\
class Puts(WebSocketMessageFilter):
    @staticmethod
    def filter(web_socket_instance, msg):
        web_socket_instance.queue.put({"data": bytes(msg)})
"""


class Trace(NamedTuple):
    head: str
    payload: str
    filters: list[tuple[str, str, str]]  # verdict, deliveries, name with what follows


@pytest.fixture(autouse=True)
def examples(tmp_path: Path) -> None:
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)


def traces(server: ServerProcess) -> list[Trace]:
    """Return what is complete: its lines are written at once."""
    found = re.findall(r"^(trace .+)\n  (.+)\n((?:  .+\n)+)", server.stderr, re.MULTILINE)
    line = re.compile(r"  (\w+|not reached) +(?:([\d,]+) µs)? *(sent to \d+)? +(\S+.*)\n")
    return [
        Trace(head, payload, [(v, sent, name) for v, _, sent, name in line.findall(lines)])
        for head, payload, lines in found
    ]


def wait_for(server: ServerProcess, count: int) -> list[Trace]:
    wait_until(lambda: len(traces(server)) >= count, f"{count} traces")
    return traces(server)


def test_verdicts(start_server: Start, tmp_path: Path) -> None:
    """A message passes, is changed, dropped or fails, filter by filter, with its deliveries."""
    save_filters(tmp_path, "careful", CAREFUL)
    server = start_server(
        *("-f", "no_shouting", "shout", "careful", "popchar", "broadcast_messages"),
        *("--trace", "3"),
    )
    with connect(server.url) as a, connect(server.url) as b, connect(server.url) as c:
        for message in ("hello!", "NO", "bad", "untraced"):
            a.send(message)
        for client in (b, c):
            assert [client.recv(timeout=5) for _ in "12"] == ["HELLO", "UNTRACE"]
    hello, no, bad = wait_for(server, 3)
    assert re.fullmatch(
        r"trace 1 of 3: text of 6 bytes from (127\.0\.0\.1|::1), connection [0-9a-f-]{36}",
        hello.head,
    )
    assert hello.payload == "'hello!'"
    assert hello.filters == [
        ("passed", "", "no_shouting.NoShoutingFilter"),
        ("changed", "", "shout.ShoutFilter: 'hello!' -> 'HELLO!'"),
        ("passed", "", "careful.Careful"),
        ("changed", "", "popchar.PopCharFilter: 'HELLO!' -> 'HELLO'"),
        ("passed", "sent to 2", BROADCAST),
    ]
    assert no.filters == [
        ("dropped", "", "no_shouting.NoShoutingFilter"),
        ("not reached", "", "shout.ShoutFilter"),
        ("not reached", "", "careful.Careful"),
        ("not reached", "", "popchar.PopCharFilter"),
        ("not reached", "", BROADCAST),
    ]
    assert bad.filters[2] == ("failed", "", "careful.Careful: ValueError: not\\nthis")
    assert bad.filters[3][0] == "not reached"
    assert server.stop() == 0
    assert len(traces(server)) == 3
    assert f"kill -USR1 {server.process.pid}\n" in server.stderr
    assert "operation/trace.py" not in server.stderr  # in no traceback


def test_async_filters_of_several_connections(start_server: Start, tmp_path: Path) -> None:
    """While one message waits others pass it, and each has its own deliveries only."""
    save_filters(tmp_path, "held", HELD)
    server = start_server("-f", "held", "--trace", "3")
    with connect(server.url) as a, connect(server.url) as b:
        a.send("held")
        b.send("quick")
        b.send("last")
        assert [a.recv(timeout=5) for _ in "12"] == ["quick", "last"]
        wait_for(server, 2)
        (tmp_path / "go").touch()
        assert [a.recv(timeout=5) for _ in "12"] == ["held", "done"]
    found = wait_for(server, 3)
    assert [trace.payload for trace in found] == ["'quick'", "'last'", "'held'"]
    assert [trace.filters for trace in found] == [[("passed", "sent to 3", "held.Held")]] * 3


@pytest.mark.parametrize(
    "narrowed", [["--trace_match", "ee"], ["--trace_match", "ee", "--trace", "2"]]
)
def test_messages_with_a_text(start_server: Start, narrowed: list[str]) -> None:
    """Only these are traced, and counted; without a number there are ten."""
    server = start_server("-f", "shout", "broadcast_messages", *narrowed)
    with connect(server.url) as a, connect(server.url) as b:
        for message in ("see", "saw", "bee", *(f"eel {number}" for number in range(10)), "end"):
            a.send(message)
        while b.recv(timeout=5) != "END":
            pass
    count = 2 if "--trace" in narrowed else 10
    found = wait_for(server, count)
    assert [trace.payload for trace in found[:3]] == ["'see'", "'bee'", "'eel 0'"][:count]
    assert server.stop() == 0
    assert len(traces(server)) == count


def test_messages_of_an_address(start_server: Start) -> None:
    """Whom it is not from, or whose id begins otherwise, is not traced."""
    for wanted, count in (("127.0.0.1", 1), ("203.0.113.9", 0), ("x", 0)):
        server = start_server("--trace_connection", wanted)
        with connect(f"ws://127.0.0.1:{server.port}/") as a:
            a.send("hello")
            wait_until(lambda server=server: "--MESSAGE--" in server.stdout)  # type: ignore[misc]
        assert server.stop() == 0
        assert len(traces(server)) == count


@pytest.mark.parametrize(
    ("arguments", "count"), [([], 10), (["--trace", "2"], 2), (["--trace", "0"], 10)]
)
def test_a_signal_begins_again(start_server: Start, arguments: list[str], count: int) -> None:
    """SIGUSR1 looks into a server that runs, as often as wanted."""
    server = start_server("-f", "broadcast_messages", *arguments)
    with connect(server.url) as a, connect(server.url) as b:

        def send(messages: int) -> None:
            for _ in range(messages):
                a.send("hello")
                assert b.recv(timeout=5) == "hello"

        def begin_again(times: int) -> None:
            server.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: server.stderr.count("tracing the next") == times, "the signal")

        is_on = arguments == ["--trace", "2"]
        send(count + 1)
        assert len(wait_for(server, count * is_on)) == count * is_on
        for times in (is_on + 1, is_on + 2):
            begin_again(times)
            send(count + 1)
            assert len(wait_for(server, count * times)) == count * times
    assert server.stop() == 0
    assert len(traces(server)) == count * (is_on + 2)


def test_a_running_server_is_told_which_messages(start_server: Start, tmp_path: Path) -> None:
    """SIGUSR1 reads the config file again: its trace options count from then on, if it is right."""
    config = tmp_path / "fws.toml"
    config.write_text('filters = ["broadcast_messages"]\n')
    server = start_server("-c", "fws.toml")
    with connect(server.url) as a, connect(server.url) as b:

        def begin(settings: str, times: int) -> None:
            config.write_text(settings)
            server.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: server.stderr.count("tracing the next") == times, "the signal")
            for message in ("one", "two"):
                a.send(message)
                assert b.recv(timeout=5) == message

        begin('trace = 1\ntrace_match = "two"\n', 1)
        assert [trace.payload for trace in wait_for(server, 1)] == ["'two'"]
        connection = traces(server)[0].head.rpartition(" ")[2]
        begin(f'trace = 3\ntrace_connection = "{connection[:8]}"\n', 2)
        b.send("other")
        assert a.recv(timeout=5) == "other"
        a.send("last")
        assert b.recv(timeout=5) == "last"
        found = [trace.payload for trace in wait_for(server, 4)]
        assert found == ["'two'", "'one'", "'two'", "'last'"]
        begin("trace = many\n", 3)
        assert len(wait_for(server, 6)) == 6
        assert "fws.toml: " in server.stderr and "the options of the start" in server.stderr
    assert server.stop() == 0


def test_items_of_the_queue(start_server: Start, tmp_path: Path) -> None:
    """What reaches the consumer chain is traced like messages."""
    save_filters(tmp_path, "puts", ECHO_ITEMS)
    server = start_server("-f", "puts", "broadcast_pubsub", "--trace", "1")
    with connect(server.url) as a:
        a.send("hello")
        assert a.recv(timeout=5) == "hello"
    message, item = wait_for(server, 2)
    assert message.filters == [("passed", "", "puts.Puts")]
    assert item.head == "trace 1 of 1: item"
    assert item.payload == "{'data': b'hello'}"
    name = "filtered_websocket.filters.broadcast_pubsub.BroadcastPubSubFilter"
    assert item.filters == [("passed", "sent to 1", name)]
