"""The commands of the page about troubleshooting, run for causes that it names.

What is run, and what is looked for in the output, is read from the page.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ..process import DEADLINE, ServerProcess, wait_until
from .conftest import REDIS_STORAGE
from .redis_server import RedisProcess
from .wire import Peer, ask, head, local_tls, save_filters

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
REFUSED = "## Why was a client refused?"
LOST = "## Why did a message not arrive?"
ELSEWHERE = "### On another server"
STOPPED = "## Why did Redis' messages stop?"
SEND_AGAIN = "kill -USR1 $PID"

DOOR = """
class Door(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, ws, request):
        key = request.query.get("key")
        if key == "wrong":
            raise RejectHandshake(401, "no such key")
        if key == "hang":
            await asyncio.sleep(3600)
        if key == "fail":
            raise LookupError(key)
"""
ROOM = """
class Room(WebSocketMessageFilter):
    @classmethod
    def filter(cls, ws, msg):
        json.loads(msg)["room"]
"""
LOOKUP = """
class Lookup(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, ws, msg):
        await asyncio.sleep(3600)
"""
PUSH = """
class Push(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, server, item):
        server.users.broadcast(json.loads(item["data"])["text"])
"""
SLOW_PUSH = """
class SlowPush(WebSocketConsumerFilter):
    @classmethod
    async def filter(cls, server, item):
        await asyncio.sleep(3600)
"""


def section(heading: str) -> str:
    """Return what the page has under a heading, up to the next one."""
    text = PAGE.partition(f"\n{heading}\n")[2]
    assert text, heading
    return re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


class Operator:
    """Somebody with the page: a server, its Redis, and the shell with the names of the page."""

    def __init__(self, folder: Path, redis: RedisProcess | None) -> None:
        self.folder = folder
        self._redis = redis
        self._stack = ExitStack()
        self.arguments: tuple[str, ...] = ()
        self.origin = "https://chat.example"
        self.channel = "global"
        self.scheme = "http"

    @property
    def redis(self) -> RedisProcess:
        assert self._redis is not None
        return self._redis

    def start(self, *arguments: str, **environ: str) -> None:
        """Start the server; with Redis, wait until it listens to it or has said why it does not."""
        self.arguments = arguments
        if self._redis is not None:
            self.arguments += ("--redis_port", str(self._redis.port))
            environ |= REDIS_STORAGE
        options = (*self.arguments, "--metrics_port", "0")
        self.server = ServerProcess(self.folder, *options, environ=environ)
        self._stack.callback(self.server.kill)
        self.environ = environ
        wait_until(self._metrics, "the start lines")
        if self._redis is not None:
            said = re.compile("listening to Redis|is away")
            wait_until(lambda: said.search(self.server.stderr), "a word of Redis")

    def client(self) -> ClientConnection:
        return self._stack.enter_context(connect(self.server.url, close_timeout=0.2))

    def peer(self, **options: int) -> Peer:
        return self._stack.enter_context(Peer(self.server.port, **options))

    def run(self, commands: str) -> str:
        """Return what these commands print, where the names of the page are set."""
        log = self.folder / "fws.log"
        log.write_text(self.server.stderr)
        names = {
            "SERVER": f"{self.scheme}://localhost:{self.server.port}",
            "ORIGIN": self.origin,
            "METRICS": self._metrics(),
            "LOG": str(log),
            "PID": str(self.server.process.pid),
            "ARGUMENTS": " ".join(self.arguments),
            # As on a terminal.
            "REDIS": f"redis-cli --no-raw -p {self._redis.port if self._redis else 1}",
            "CHANNEL": self.channel,
        }
        assert set(names) == set(re.findall(r"^([A-Z]+)=", blocks(PAGE, "sh")[0], re.MULTILINE))
        scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", commands],
            cwd=self.folder,
            env=os.environ | self.environ | names | {"PATH": scripts},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE * 2,
        )
        return done.stdout.decode(errors="replace")

    def follow(self, heading: str, act: Callable[[Operator], object]) -> str:
        """Let it happen, go through the commands of a section, and return what they print."""
        act(self)
        output = ""
        for commands in blocks(section(heading), "sh"):
            output += self.run(commands)
            if SEND_AGAIN in commands:
                wait_until(lambda: "tracing the next" in self.server.stderr, "the trace")
                act(self)
        return output

    def end(self) -> None:
        self._stack.close()

    def _metrics(self) -> str:
        match = re.search(r"metrics: (http://\S+)/", self.server.stderr)
        return match[1] if match else ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("no_shouting", "shout"):
        shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    sources = {"door": DOOR, "room": ROOM, "lookup": LOOKUP, "push": PUSH, "slow_push": SLOW_PUSH}
    for name, source in sources.items():
        save_filters(tmp_path, name, source)
    return tmp_path


@pytest.fixture
def operator(folder: Path) -> Iterator[Operator]:
    operator = Operator(folder, None)
    yield operator
    operator.end()


@pytest.fixture
def operator_of_redis(folder: Path, redis_process: RedisProcess) -> Iterator[Operator]:
    operator = Operator(folder, redis_process)
    yield operator
    operator.end()


# What the page shows


def masked(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, mask in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
        (r"localhost:\d+", "localhost:PORT"),
        (r" +\d+ µs", " N µs"),
        (r" [1-9]\d*\.0$", " N"),
    ):
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.splitlines()]


def assert_shown(heading: str, output: str) -> None:
    """Each line that the page shows is printed; `…` stands for what is left out."""
    printed = masked(output)
    for line in masked("".join(blocks(section(heading), "text"))):
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert any(re.fullmatch(pattern, other) for other in printed), f"{line}\n\n{output}"


def nothing(operator: Operator) -> None:
    """Let the commands of the page be what happens."""


def say_hello_twice(operator: Operator) -> None:
    sender = operator.client()
    sender.send("hello")
    sender.send("HELLO")
    sender.ping().wait(DEADLINE)


def test_why_a_client_was_refused(operator: Operator) -> None:
    """The page's example is an origin that may not connect."""
    operator.start("-f", "broadcast_messages")
    assert_shown(REFUSED, operator.follow(REFUSED, nothing))


def test_why_a_message_did_not_arrive(operator: Operator) -> None:
    """The page's example is a filter that drops it."""
    operator.start("-f", "no_shouting", "shout", "broadcast_messages")
    assert_shown(LOST, operator.follow(LOST, say_hello_twice))


@pytest.mark.redis
def test_which_servers_hear_each_other(operator_of_redis: Operator) -> None:
    """The page shows one cluster; of two, both are told."""
    operator = operator_of_redis
    operator.start("-f", "broadcast_messages")
    assert_shown(ELSEWHERE, operator.follow(ELSEWHERE, nothing))
    operator.start("-f", "broadcast_messages", "--redis_key", "other")
    output = operator.follow(ELSEWHERE, nothing)
    assert '"fws:cluster:all"' in output and '"other:cluster:all"' in output
    assert "--redis_key other" in output


@pytest.mark.redis
def test_why_messages_of_redis_stopped(operator_of_redis: Operator) -> None:
    """The page's example is a channel that no server listens to."""
    operator = operator_of_redis
    operator.start("-f", "broadcast_messages", "broadcast_pubsub")
    operator.channel = "news"
    assert_shown(STOPPED, operator.follow(STOPPED, nothing))


# Its tables


def row(heading: str, begin: str) -> str:
    """Return the first cell of the row that begins so."""
    lines = [line for line in section(heading).splitlines() if line.startswith(f"| {begin}")]
    assert len(lines) == 1, begin
    return lines[0].split(" | ")[0]


def is_told(cell: str, output: str) -> bool:
    """Tell whether all that a cell says to look for is there; `no` before it says it is not."""

    def is_there(what: str) -> bool:
        if re.fullmatch(r"fws_\w+", what):  # above 0
            return re.search(rf"^{what}(\{{.*)? (?!0\.0$)", output, re.MULTILINE) is not None
        return what in output

    return all(is_there(what) is not bool(no) for no, what in re.findall(r"(no )?`(.+?)`", cell))


def get(path: str, **headers: str | None) -> Callable[[Operator], object]:
    return lambda operator: ask(operator.server.port, head(path, **headers))


def take_the_place(operator: Operator) -> None:
    with suppress(InvalidStatus):  # where it is taken already
        operator.client()


def send_half_a_request(operator: Operator) -> None:
    operator.peer().send(b"GET / HT")
    wait_until(lambda: "refused: 408" in operator.server.stderr, "the time limit")


def drain(operator: Operator) -> None:
    operator.server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in operator.server.stderr, "the stop")


def use_tls(operator: Operator) -> None:
    operator.scheme = "https"


ALLOWED = ("--origins", "https://chat.example")
OF_REFUSALS: dict[str, tuple[Sequence[str], Callable[[Operator], object]]] = {
    '`reason="origin"`': ((), nothing),
    '`reason="filter_rejected"`': (("-f", "door"), get("/?key=wrong")),
    '`reason="filter_failed"`': (("-f", "door"), get("/?key=fail")),
    '`reason="filter_timeout"`': (
        ("-f", "door", "--handshake_timeout", "0.2"),
        get("/?key=hang"),
    ),
    '`reason="timeout"`': (("--handshake_timeout", "0.2"), send_half_a_request),
    '`reason="per_address"`': ((*ALLOWED, "--max_connections_per_ip", "1"), take_the_place),
    '`reason="too_many"`': ((*ALLOWED, "--max_connections", "1"), take_the_place),
    '`reason="header_size"`': (("--max_header_size", "100"), nothing),
    '`reason="no_upgrade"`': ((), get("/", Upgrade=None, Connection="close")),
    '`reason="version"`': ((), get("/", Sec_WebSocket_Version="8")),
    '`reason="bad_request"`': (
        ("--trusted_proxies", "127.0.0.1"),
        get("/", X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.2"),
    ),
    '`reason="tls"`': ((), use_tls),
    "`fws_ready 0.0`": (("--drain_delay", "60"), drain),
}


@pytest.mark.slow
@pytest.mark.parametrize("begin", OF_REFUSALS)
def test_each_reason_of_a_refusal_is_told(operator: Operator, begin: str) -> None:
    """What the row says to look for is in what the commands print."""
    options, act = OF_REFUSALS[begin]
    operator.start(*(options if "-f" in options else ("-f", *options)))
    wait_until(lambda: is_told(row(REFUSED, begin), operator.follow(REFUSED, act)), begin)


@pytest.mark.slow
def test_a_certificate_that_is_not_trusted_is_told(operator: Operator) -> None:
    """curl says so; the server counts a handshake that was abandoned."""
    operator.start("-f", *local_tls(operator.folder)[0])
    operator.scheme = "https"
    cell = row(REFUSED, "`fws_handshakes_abandoned_total`")
    wait_until(lambda: is_told(cell, operator.follow(REFUSED, nothing)), cell)
    assert "`SSL certificate problem`" in section(REFUSED)
    assert "SSL certificate problem" in operator.follow(REFUSED, nothing)


def send(*messages: str) -> Callable[[Operator], None]:
    """Return what lets one client send, and another one listen."""

    def act(operator: Operator) -> None:
        sender, _ = operator.client(), operator.client()
        for message in messages:
            sender.send(message)
        with suppress(ConnectionClosed):
            sender.ping().wait(0.2)  # behind messages that wait there is no pong

    return act


def send_alone(operator: Operator) -> None:
    with connect(operator.server.url) as sender:
        sender.send("hello")
        sender.ping().wait(DEADLINE)


def flood(operator: Operator) -> None:
    operator.peer(read_buffer=4096).open()
    send(*["x" * 100_000] * 50)(operator)


OF_LOSSES: dict[str, tuple[Sequence[str], Callable[[Operator], object]]] = {
    '`code="1009"`': (("broadcast_messages", "--max_message_size", "10"), send("x" * 20)),
    "`fws_filter_drops_total`": (("no_shouting", "broadcast_messages"), send("HELLO")),
    "`fws_filter_errors_total`": (("room", "broadcast_messages"), send("hello")),
    "`fws_filter_running`": (("lookup", "broadcast_messages"), send("hello", "more")),
    "`fws_rate_delays_total`": (("broadcast_messages", "--rate", "0.1"), send("1", "2", "3")),
    "`changed` |": (("shout", "broadcast_messages"), send("hello")),
    "`changed` below": (("broadcast_messages", "shout"), send("hello")),
    "`passed`": (("broadcast_messages",), send_alone),
    '`reason="slow_client"`': (
        ("broadcast_messages", "--slow_client", "drop_oldest", "--max_queue_bytes", "1000"),
        flood,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("begin", OF_LOSSES)
def test_each_reason_of_a_loss_is_told(operator: Operator, begin: str) -> None:
    """What the row says to look for is in what the commands print."""
    options, act = OF_LOSSES[begin]
    operator.start("-f", *options)
    wait_until(lambda: is_told(row(LOST, begin), operator.follow(LOST, act)), begin)


def test_a_wrong_order_is_told_by_the_command_of_its_row(operator: Operator) -> None:
    """The server is asked with the arguments that it was started with."""
    operator.start("-f", "broadcast_messages", "shout")
    (command,) = re.findall(r"`changed` below.*`(fws_server --check .*?)`", section(LOST))
    assert "name shout before" in operator.run(command)


def publish(operator: Operator) -> None:
    operator.redis.connect().publish("global", "hello")


def publish_inside(operator: Operator) -> None:
    operator.redis.connect().publish("fws:cluster:all", "hello")


def kill(operator: Operator) -> None:
    operator.redis.kill()


def restart(operator: Operator) -> None:
    operator.redis.kill()
    wait_until(lambda: "is away" in operator.server.stderr, "the line")
    operator.redis.start()
    wait_until(lambda: "is back" in operator.server.stderr, "the line")


def overflow(operator: Operator) -> None:
    operator.redis.kill()
    send(*"123456789")(operator)


OF_SILENCE: dict[str, tuple[Sequence[str], Callable[[Operator], object]]] = {
    "`fws_redis_connected 0.0`, `Connection refused`": (("broadcast_pubsub",), kill),
    "`fws_redis_items_total` grows": (("broadcast_messages",), publish),
    "`fws_filter_errors_total`": (("push",), publish),
    "`fws_filter_running`": (("slow_push",), publish),
    "`fws_redis_malformed_total`": (("broadcast_pubsub",), publish_inside),
    "`fws_redis_reconnects_total`": (("broadcast_pubsub",), restart),
    "`fws_redis_dropped_total`": (("broadcast_messages", "--redis_backlog", "2"), overflow),
}


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("begin", OF_SILENCE)
def test_each_reason_of_silence_is_told(operator_of_redis: Operator, begin: str) -> None:
    """What the row says to look for is in what the commands print."""
    operator = operator_of_redis
    options, act = OF_SILENCE[begin]
    operator.start("-f", *options)
    wait_until(lambda: is_told(row(STOPPED, begin), operator.follow(STOPPED, act)), begin)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "environ", "config"),
    [
        ("`fws_redis_connected 0.0`, `password`", {"FWS_REDIS_PASSWORD": "x"}, "requirepass y"),
        ("`fws_redis_connected 0.0`, `authenticate`", {}, "requirepass y"),
        (
            "`fws_redis_connected 0.0`, `no permissions`",
            {},
            "user default on nopass ~* +@all resetchannels",
        ),
    ],
)
def test_a_redis_that_refuses_is_told(
    folder: Path, begin: str, environ: dict[str, str], config: str
) -> None:
    """A wrong password, none, and a user that may not listen."""
    with RedisProcess(folder / "redis", config) as redis:
        operator = Operator(folder, redis)
        operator.start("-f", "broadcast_pubsub", **environ)
        wait_until(lambda: is_told(row(STOPPED, begin), operator.follow(STOPPED, nothing)), begin)
        operator.end()
