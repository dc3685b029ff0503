"""The documented examples with Redis, run as a user runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from websockets.sync.client import ClientConnection, connect

from ..process import ServerProcess, wait_until
from .conftest import REDIS_STORAGE
from .redis_server import RedisProcess

pytestmark = [pytest.mark.redis, pytest.mark.slow]

Start = Callable[..., ServerProcess]
StartCluster = Callable[..., list[ServerProcess]]

PASSWORD = "open-sesame"

SHOW_ITEMS = """\
from filtered_websocket.filters.base import WebSocketConsumerFilter

class ShowItems(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance, item):
        print(type(item).__name__, sorted(item.items()), flush=True)
"""


@contextmanager
def clients(*servers: ServerProcess) -> Iterator[list[ClientConnection]]:
    """Connect one client to each of these servers."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(server.url)) for server in servers]


def publish(client: redis.Redis, channel: str, data: bytes | str) -> int:
    """Publish as any program does; return how many subscribers Redis knows."""
    return int(client.publish(channel, data))  # type: ignore[arg-type]


# Published by a plain client


def test_what_is_published_on_global_reaches_every_client(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """With `broadcast_pubsub` the clients of each server get it, in order: text as text."""
    a, b = start_cluster("filtered_websocket.filters.broadcast_pubsub")
    with clients(a, a, b) as everybody, redis_process.connect() as job:
        assert publish(job, "global", "hello") == 2
        assert publish(job, "global", "Zażółć 🐢") == 2
        assert publish(job, "global", b"\x00\xff") == 2
        assert publish(job, "elsewhere", "not for us") == 0
        assert publish(job, "global", "") == 2
        for client in everybody:
            received = [client.recv(timeout=5) for _ in range(4)]
            assert received == ["hello", "Zażółć 🐢", b"\x00\xff", ""]


def test_messages_and_published_items_together(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """Clients hear each other and the channel, and a sender hears the channel only."""
    a, b = start_cluster("broadcast_messages", "broadcast_pubsub")
    with clients(a, a, b) as (x, y, z), redis_process.connect() as job:
        x.send("from x")
        assert y.recv(timeout=5) == z.recv(timeout=5) == "from x"
        publish(job, "global", "from the job")
        assert [client.recv(timeout=5) for client in (x, y, z)] == ["from the job"] * 3


def test_items_are_printed_as_text(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """`stdout_pubsub` prints channel and data as text, other bytes escaped."""
    (server,) = start_cluster("filtered_websocket.filters.stdout_pubsub", servers=1)
    job = redis_process.connect()
    publish(job, "global", "Zażółć")
    publish(job, "global", b"\xff")
    wait_until(lambda: server.stdout.count("--PUBSUB--\n") == 2, "two printed items")
    first, second = server.stdout.split("--PUBSUB--\n")[1:]
    assert "'channel': 'global'" in first and "'data': 'Zażółć'" in first
    assert "'type': 'message'" in first and "b'" not in server.stdout
    assert "'data': '\\\\xff'" in second


def test_items_are_the_dicts_of_redis_py(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """A consumer filter gets type, pattern, channel and data, the latter as bytes; nothing else."""
    (tmp_path / "show_items.py").write_text(SHOW_ITEMS)
    (server,) = start_cluster("show_items", servers=1, redis_patterns=["news.*", "*.pl"])
    job = redis_process.connect()
    assert publish(job, "global", b"\x00\xff") == 1
    assert publish(job, "news.pl", "nowości") == 2
    wait_until(lambda: server.stdout.count("\n") >= 3, "three items")
    by_channel = [
        (b"global", b"\x00\xff", None, "message"),
        (b"news.pl", "nowości".encode(), b"*.pl", "pmessage"),
        (b"news.pl", "nowości".encode(), b"news.*", "pmessage"),
    ]
    expected = [
        f"dict {sorted({'channel': c, 'data': d, 'pattern': p, 'type': t}.items())}"
        for c, d, p, t in by_channel
    ]
    lines = server.stdout.splitlines()
    assert [lines[0], *sorted(lines[1:])] == expected


# Which channels


def test_redis_channels_replace_global(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """The server hears the channels that it was given, and `global` only when it is one of them."""
    (server,) = start_cluster("broadcast_pubsub", servers=1, redis_channels=["one", "two"])
    with clients(server) as (client,), redis_process.connect() as job:
        assert publish(job, "global", "not for us") == 0
        assert publish(job, "two", "2") == publish(job, "one", "1") == 1
        assert [client.recv(timeout=5) for _ in range(2)] == ["2", "1"]


def test_no_channel_at_all(start_cluster: StartCluster, redis_process: RedisProcess) -> None:
    """A bare --redis_channels means none; the server works all the same."""
    (server,) = start_cluster("broadcast_messages", servers=1, redis_channels=[])
    with clients(server, server) as (a, b), redis_process.connect() as job:
        assert publish(job, "global", "not for us") == 0
        a.send("hello")
        assert b.recv(timeout=5) == "hello"


def test_redis_patterns_are_heard_too(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """Besides the channels, all whose name matches a pattern; what the servers say is no item."""
    a, b = start_cluster(
        "broadcast_messages", "broadcast_pubsub", redis_channels=["one"], redis_patterns=["new?.*"]
    )
    c, d = start_cluster("broadcast_messages", "broadcast_pubsub", redis_patterns=["*"])
    with clients(a, b) as few, clients(c, d) as all_of_them, redis_process.connect() as job:
        for channel in ("one", "news.today", "newt.green", "old.news"):
            publish(job, channel, channel)
        for client in few:
            assert [client.recv(timeout=5) for _ in range(3)] == ["one", "news.today", "newt.green"]
        for client in all_of_them:
            assert client.recv(timeout=5) == "one"
            assert {client.recv(timeout=5) for _ in range(3)} == {
                "news.today",
                "newt.green",
                "old.news",
            }
        few[0].send("chat")
        for client in (few[1], *all_of_them):
            assert client.recv(timeout=5) == "chat"
        all_of_them[0].send("again")
        for client in (*few, all_of_them[1]):
            assert client.recv(timeout=5) == "again"


# Where options come from


def test_help_shows_the_options_of_this_storage_only(start_server: Start) -> None:
    """`-h` has the --redis_ options when this storage is chosen, and else none of them."""
    with_redis, without = start_server("-h", environ=REDIS_STORAGE), start_server("-h")
    assert with_redis.wait() == without.wait() == 0
    shown = set(re.findall(r"--redis_\w+", with_redis.stdout))
    assert shown >= {"--redis_host", "--redis_port", "--redis_channels", "--redis_key"}
    assert shown >= {f"--redis_{name}" for name in ("url", "patterns", "sentinel", "master")}
    assert shown >= {f"--redis_{name}" for name in ("cluster", "required", "backlog")}
    assert "--redis_lease_seconds" in shown
    assert "redis" not in without.stdout


def test_redis_options_need_this_storage(start_server: Start) -> None:
    """Without it they are unknown, and the error names the option."""
    server = start_server("--redis_port", "6379")
    assert server.wait() == 2
    assert "--redis_port" in server.stderr and "Traceback" not in server.stderr


def test_options_from_the_environment(start_server: Start, redis_process: RedisProcess) -> None:
    """FWS_REDIS_PORT and the like are read, lists with commas."""
    server = start_server(
        *("-f", "broadcast_pubsub"),
        environ=REDIS_STORAGE
        | {
            "FWS_REDIS_HOST": "127.0.0.1",
            "FWS_REDIS_PORT": str(redis_process.port),
            "FWS_REDIS_CHANNELS": "one,two",
            "FWS_REDIS_KEY": "mine",
        },
    )
    with clients(server) as (client,), redis_process.connect() as job:
        publish(job, "two", "hello")
        assert client.recv(timeout=5) == "hello"
        assert publish(job, "global", "") == 0
        assert all(key.startswith(b"mine:") for key in job.keys())  # type: ignore[union-attr]
        assert job.keys()
    assert "WARNING" not in server.stderr


def test_options_from_the_config_file(
    start_server: Start, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """The documented JSON works, with a list of channels, and `flags` know --redis_required."""
    config = {
        "filters": ["filtered_websocket.filters.broadcast_pubsub"],
        "redis_host": "localhost",
        "redis_port": str(redis_process.port),
        "redis_channels": ["global", "one"],
        "redis_key": "mine",
        "flags": ["redis_required"],
    }
    (tmp_path / "config.json").write_text("# With Redis.\n" + json.dumps(config))
    server = start_server("-c", "config.json", environ=REDIS_STORAGE)
    with clients(server) as (client,), redis_process.connect() as job:
        publish(job, "one", "1")
        publish(job, "global", "2")
        assert [client.recv(timeout=5) for _ in range(2)] == ["1", "2"]
        assert all(key.startswith(b"mine:") for key in job.keys())  # type: ignore[union-attr]


# Where Redis is


def test_url_of_a_socket(start_server: Start, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`unix://` with a path reaches a Redis that listens on no port of the network."""
    folder = tmp_path_factory.mktemp("socket")
    with RedisProcess(folder, f"unixsocket {folder}/redis.sock") as redis_process:
        server = start_server(
            *("-f", "broadcast_pubsub", "--redis_required"),
            *("--redis_url", f"unix://{folder}/redis.sock"),
            environ=REDIS_STORAGE,
        )
        with clients(server) as (client,), redis_process.connect() as job:
            publish(job, "global", "hello")
            assert client.recv(timeout=5) == "hello"
            listed = job.client_list()
            assert any(entry["addr"].startswith(str(folder)) for entry in listed)
        assert server.stop() == 0


def test_url_with_a_database(start_server: Start, redis_process: RedisProcess) -> None:
    """Keys are kept in the database that the URL names."""
    server = start_server(
        "-f", "--redis_url", f"{redis_process.url}/5", "--redis_required", environ=REDIS_STORAGE
    )
    assert server.port
    assert redis_process.connect(db=5).keys()
    assert redis_process.connect(db=0).keys() == []


def test_a_wrong_database_is_said(start_server: Start, redis_process: RedisProcess) -> None:
    """A database that Redis does not have is one clear error with --redis_required."""
    server = start_server(
        "-f", "--redis_url", f"{redis_process.url}/500", "--redis_required", environ=REDIS_STORAGE
    )
    assert server.wait() == 1
    assert "out of range" in server.stderr and "Traceback" not in server.stderr


# Passwords


@pytest.fixture
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A Redis that asks for a password, and knows a user with the same one."""
    user = f"user worker on >{PASSWORD} ~* &* +@all"
    folder = tmp_path_factory.mktemp("locked")
    with RedisProcess(folder, f"requirepass {PASSWORD}", user) as redis_process:
        yield redis_process


@pytest.mark.parametrize("way", ["variable", "url", "url in a variable", "user", "variable wins"])
def test_a_password(start_server: Start, locked: RedisProcess, way: str) -> None:
    """From a variable or in the URL it opens Redis, and is in no line that is printed."""
    plain = ["--redis_port", str(locked.port)]
    place = f"127.0.0.1:{locked.port}"
    arguments, variables = {
        "variable": (plain, {"FWS_REDIS_PASSWORD": PASSWORD}),
        "url": (["--redis_url", f"redis://:{PASSWORD}@{place}/0"], {}),
        "url in a variable": ([], {"FWS_REDIS_URL": f"redis://:{PASSWORD}@{place}"}),
        "user": (["--redis_url", f"redis://worker:{PASSWORD}@{place}"], {}),
        "variable wins": (
            ["--redis_url", f"redis://worker@{place}"],
            {"FWS_REDIS_PASSWORD": PASSWORD},
        ),
    }[way]
    server = start_server(
        *("-f", "broadcast_pubsub", "--redis_required", "--log_level", "debug", *arguments),
        environ=REDIS_STORAGE | variables,
    )
    with clients(server) as (client,):
        publish(locked.connect(), "global", "hello")
        assert client.recv(timeout=5) == "hello"
    locked.kill()
    wait_until(lambda: "is away" in server.stderr, "the warning")
    assert server.stop() == 0
    assert place.replace("127.0.0.1", "") in server.stderr, "the place is named"
    assert PASSWORD not in server.stderr + server.stdout
    assert "FWS_REDIS_PASSWORD is not an option" not in server.stderr


@pytest.mark.parametrize("options", [["--redis_required"], []], ids=["required", "not required"])
def test_a_wrong_password_is_said(
    start_server: Start, locked: RedisProcess, options: list[str]
) -> None:
    """Once, with what Redis answered, and without the password; the server serves if it may."""
    wrong = "not-the-word"
    server = start_server(
        *("-f", "broadcast_messages", *options),
        environ=REDIS_STORAGE | {"FWS_REDIS_URL": locked.url, "FWS_REDIS_PASSWORD": wrong},
    )
    if options:
        assert server.wait() == 1
    else:
        with clients(server, server) as (a, b):
            a.send("hello")
            assert b.recv(timeout=5) == "hello"
        assert server.stop() == 0
    assert server.stderr.count("invalid username-password pair") == 1
    assert wrong not in server.stderr and "Traceback" not in server.stderr


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@localhost:not-a-port",
        "redis://:{}#rest@localhost:6379",
        "redis://:{}/rest@localhost:6379",
        "http://:{}@localhost:6379",
        ":{}@localhost",
    ],
    ids=["port", "hash", "slash", "scheme", "no scheme"],
)
def test_a_wrong_url_does_not_show_its_password(start_server: Start, url: str) -> None:
    """An error of one or two lines that names the option, and not the secret in its value."""
    server = start_server("-f", environ=REDIS_STORAGE | {"FWS_REDIS_URL": url.format(PASSWORD)})
    assert server.wait() in (1, 2)
    assert "--redis_url" in server.stderr
    assert PASSWORD not in server.stderr and "Traceback" not in server.stderr
    assert server.stderr.count("\n") <= 2
