"""A user of 0.4.1 moves over: what runs as it is, what is told, what to write instead."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from filtered_websocket.migration import GUIDE
from filtered_websocket.testing import Pipeline

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess

Start = Callable[..., ServerProcess]
StartCluster = Callable[..., list[ServerProcess]]

EXAMPLES = Path(__file__).parents[2] / "examples" / "from_0_4_1"

needs_redis = [pytest.mark.redis, pytest.mark.slow]


def said(server: ServerProcess) -> list[str]:
    """Return the warnings and errors of a server."""
    return [line for line in server.stderr.splitlines() if " WARNING " in line or " ERROR " in line]


def recv(client: ClientConnection) -> str | bytes:
    return client.recv(timeout=5)


# What runs as it is: programs in the style of the documentation of 0.4.1


CHAT = """\
from __future__ import absolute_import
from filtered_websocket.filters.base import WebSocketMessageFilter

class ChatServer(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        for client_id, client in web_socket_instance.users.items():
            client.sendMessage(bytes(data))
"""

POPCHAR = """\
from filtered_websocket.filters.base import WebSocketMessageFilter

class PopChar(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        data.pop()
"""

HI_MORGAN = """\
import sys
from filtered_websocket.filters.base import WebSocketDataFilter

class HiMorgan(WebSocketDataFilter):
    @staticmethod
    def filter(web_socket_instance, data):
        if bytes(data).lower().strip() == b"morgan":
            sys.stdout.write("Hi Morgan!\\n")
            sys.stdout.flush()
"""

CHAIN = """\
from filtered_websocket.filters.base import FilterBase, FilterMeta, WebSocketMessageFilter

class Step(FilterBase):
    class __metaclass__(FilterMeta):
        pass

class First(Step):
    @classmethod
    def filter(cls, web_socket_instance, data=None):
        web_socket_instance.sendMessage(b"first")

class Second(Step):
    @classmethod
    def filter(cls, web_socket_instance, data=None):
        web_socket_instance.sendMessage(b"second")

class RunSteps(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        Step.run(web_socket_instance)
"""

GROUPS = """\
import re
from filtered_websocket.filters.base import WebSocketDisconnectFilter, WebSocketMessageFilter

class GroupFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        found = re.search(b"group:(\\\\S+)", msg)
        if found is not None:
            token = web_socket_instance.token = found.group(1)
            web_socket_instance.name = "member"
            web_socket_instance.storage_object.add(token, web_socket_instance.id)
            web_socket_instance.sendMessage(b"welcome")
        else:
            for _id, user in web_socket_instance.users.items():
                if _id in web_socket_instance.storage_object[web_socket_instance.token]:
                    user.sendMessage(msg)

class LeaveFilter(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data=None):
        if web_socket_instance.token:
            web_socket_instance.storage_object.remove(
                web_socket_instance.token, web_socket_instance.id
            )
            members = web_socket_instance.storage_object.get(web_socket_instance.token) or ()
            print("%d left" % len(members))
"""

CONFIG = """\
# config.json
{
    "port": "PORT",
    "filters": ["filtered_websocket.filters.broadcast_messages_by_token",
                "filtered_websocket.filters.stdout_messages"]
}
"""

OWN_BROKER = """\
from threading import Event
from filtered_websocket.storage_objects.base import BasePubSubStorageObject
from filtered_websocket.storage_objects.subscribers.base import BaseSubscriber

class Subscriber(BaseSubscriber):
    def __init__(self, options, client):
        self.options = options
        self.killed = client

    def listener(self, web_socket_instance):
        web_socket_instance.queue.put({"type": "message", "data": self.options.greeting})
        self.killed.wait()

    def kill(self):
        self.killed.set()

class StorageObject(BasePubSubStorageObject):
    def get_client(self):
        return Event()

    @classmethod
    def get_subscriber(cls):
        return Subscriber

    @classmethod
    def parser(cls, parser):
        parser.add_argument("--greeting", default="hello")
        return parser
"""


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, str], None]:
    """Return a function that saves a file where servers are started."""
    return lambda name, text: (tmp_path / name).write_text(text)  # type: ignore[return-value]


def test_the_chat_of_the_readme_runs(start_server: Start, save: Callable[..., None]) -> None:
    """It sends each message to everybody, its sender too."""
    save("chat.py", CHAT)
    server = start_server("-f", "chat")
    with connect(server.url) as a, connect(server.url) as b:
        a.send("hello")
        assert recv(a) == recv(b) == "hello"
    assert server.stop() == 0
    assert said(server) == []


@pytest.mark.parametrize(
    ("filters", "printed"),
    [
        (("popchar", "filtered_websocket.filters.stdout_messages"), "Tes"),
        (("filtered_websocket.filters.stdout_messages", "popchar"), "Test"),
    ],
    ids=["before", "after"],
)
def test_a_pipeline_runs_in_its_order(
    start_server: Start, save: Callable[..., None], filters: tuple[str, ...], printed: str
) -> None:
    """A filter that changes the bytearray in place does so for those behind it."""
    save("popchar.py", POPCHAR)
    server = start_server("-f", *filters)
    with connect(server.url) as client:
        client.send("Test")
        wait_until(lambda: f" => {printed}\n" in server.stdout, "the message")


def test_a_data_filter_sees_what_netcat_sends(
    start_server: Start, save: Callable[..., None]
) -> None:
    """Without a handshake, and as a static method."""
    save("hi_morgan.py", HI_MORGAN)
    server = start_server("-f", "hi_morgan")
    with socket.create_connection(("127.0.0.1", server.port)) as netcat:
        netcat.sendall(b"Morgan\n")
        wait_until(lambda: server.stdout == "Hi Morgan!\n", "the greeting")


def test_a_chain_of_ones_own_runs(start_server: Start, save: Callable[..., None]) -> None:
    """As in the docstring of `filters.base`, where the metaclass is a class inside the class."""
    save("chain.py", CHAIN)
    server = start_server("-f", "chain")
    with connect(server.url) as client:
        client.send("go")
        assert [recv(client), recv(client)] == ["first", "second"]


def test_groups_in_the_storage_object_run(start_server: Start, save: Callable[..., None]) -> None:
    """`token`, `add`, `remove`, `storage_object[token]` and attributes of one's own."""
    save("groups.py", GROUPS)
    server = start_server("-f", "groups")
    with connect(server.url) as a, connect(server.url) as b:
        for client in (a, b):
            client.send("group:red")
            assert recv(client) == "welcome"
        a.send("hello")
        assert recv(b) == "hello"
    wait_until(lambda: server.stdout == "1 left\n0 left\n", "the disconnect filters")


@pytest.mark.parametrize("storage", ["default", pytest.param("redis", marks=needs_redis)])
def test_the_config_file_of_the_readme_runs(
    start_server: Start,
    save: Callable[..., None],
    redis_process: RedisProcess,
    storage: str,
) -> None:
    """A broadcast server by token that prints all messages, with and without Redis."""
    save("config.json", CONFIG.replace("PORT", "0"))
    environ = {"STORAGE_OBJECT_MODULE": f"filtered_websocket.storage_objects.{storage}"}
    where = ["--redis_port", str(redis_process.port)] if storage == "redis" else []
    server = start_server("-c", "config.json", *where, port=None, environ=environ)
    with connect(server.url) as a, connect(server.url) as b:
        for client in (a, b):
            client.send("token:red")
            assert recv(client) == "Successfully registered with broadcast group: red"
        a.send("hello")
        assert recv(b) == "hello"
        wait_until(lambda: " => hello\n" in server.stdout, "the printed message")
    assert said(server) == []


def test_a_storage_module_with_a_broker_of_its_own_runs(
    start_server: Start, save: Callable[..., None]
) -> None:
    """Its subscriber is made with the keywords `client` and `options`, in whatever order."""
    save("own_broker.py", OWN_BROKER)
    server = start_server(
        *("-f", "filtered_websocket.filters.stdout_pubsub", "--greeting", "good morning"),
        environ={"STORAGE_OBJECT_MODULE": "own_broker"},
    )
    wait_until(lambda: "'data': 'good morning'" in server.stdout, "the item")
    assert server.stop() == 0
    assert said(server) == []


@pytest.mark.redis
@pytest.mark.slow
def test_a_publisher_reaches_the_clients(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """The command line of the README, and any program that publishes on `global`."""
    (server,) = start_cluster(
        *(
            "filtered_websocket.filters.broadcast_pubsub",
            "filtered_websocket.filters.stdout_pubsub",
        ),
        servers=1,
        redis_channels=["global"],
    )
    with connect(server.url) as client:
        redis_process.connect().publish("global", "hello from the server!")
        assert recv(client) == "hello from the server!"
    wait_until(lambda: server.stdout.startswith("--PUBSUB--\n"), "the printed item")


# What is told at the start


WITH_FILTER = """\
from filtered_websocket.filters.base import FilterBase, WebSocketMessageFilter

class Filter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        {}
"""

STUMBLES = {
    "twisted": ("from twisted.internet import reactor\n", 1, "on asyncio, not on Twisted"),
    "six": ("from six import add_metaclass\n", 1, "inherit from FilterBase without add_metaclass"),
    "relative": (
        "from base import WebSocketDataFilter\n",
        1,
        "from filtered_websocket.filters.base",
    ),
    "reactor": ("from filtered_websocket.server import build_reactor\n", 1, "command fws_server"),
    "metaclass": (
        "from filtered_websocket.filters.base import MessageFilterMeta\n",
        1,
        "it is enough to inherit",
    ),
    "module": ("import json\nimport urllib2\n", 2, "in Python 3 it is `urllib.request`"),
    "builtin": ("TEXT = unicode('x')\n", 1, "in Python 3 it is `str`"),
    "print": (WITH_FILTER.format("print data"), 6, "this is Python 2"),
    "except": ("try:\n    pass\nexcept KeyError, error:\n    pass\n", 3, "this is Python 2"),
}


@pytest.mark.parametrize(("source", "line", "what"), STUMBLES.values(), ids=STUMBLES)
@pytest.mark.parametrize("kind", ["filter", "storage"])
def test_a_module_for_0_4_1_is_refused_with_what_to_do(
    start_server: Start, tmp_path: Path, kind: str, source: str, line: int, what: str
) -> None:
    """One line: the author's line, what is wrong, what to do, and the page to read."""
    (tmp_path / "old.py").write_text(source)
    if kind == "filter":
        server = start_server("-f", "old")
    else:
        server = start_server(environ={"STORAGE_OBJECT_MODULE": "old"})
    assert server.wait() == 2
    (message,) = server.stderr.splitlines()
    place = f"fws_server: {kind} module 'old' failed on import: {tmp_path}/old.py, line {line}: "
    assert message.startswith(place)
    assert what in message
    assert message.endswith(f": see {GUIDE}")


def test_a_filter_without_data_is_refused(start_server: Start, save: Callable[..., None]) -> None:
    """The README of 0.4.1 shows filters with one argument, which have never run."""
    save("old.py", WITH_FILTER.replace(", data", "").format("pass"))
    server = start_server("-f", "old")
    assert server.wait() == 2
    assert "old.py, line 4): write `def filter(cls, web_socket_instance, data)`" in server.stderr


def test_a_reactor_that_nobody_runs_is_told_of(start_server: Start, tmp_path: Path) -> None:
    """Where Twisted is installed, what waits for its reactor would wait in silence."""
    package = tmp_path / "twisted" / "internet"
    package.mkdir(parents=True)
    (package / "reactor.py").write_text("def callLater(seconds, function): pass\n")
    reactor = "from twisted.internet import reactor\n"
    (tmp_path / "old.py").write_text(reactor + WITH_FILTER.format("pass"))
    (tmp_path / "innocent.py").write_text(WITH_FILTER.format("pass"))
    server = start_server("-f", "old", "innocent")
    assert server.port
    (warning,) = said(server)
    assert "filter module 'old' imports Twisted's reactor, which does not run here" in warning
    assert warning.endswith(f"see {GUIDE}")


OLD_OPTIONS = {
    "part of an option": (["--filt", "old"], "", "did you mean '--filters'?"),
    "part of a key": ([], '{"filter": ["old"]}', "unknown key 'filter'; did you mean 'filters'?"),
    "list for one": ([], '{"port": ["9000"]}', "port: expected one value, not ['9000']"),
    "key twice": ([], '{"port": "1", "port": "9000"}', "the key 'port' is there twice"),
    "redis option": (["--redis_host", "x"], "", "--redis_host'; the options of Redis need STORAGE"),
    "redis key": ([], '{"redis_host": "x"}', "'redis_host'; the options of Redis need STORAGE_OBJ"),
    "redis flag": ([], '{"flags": ["redis"]}', "'redis'; the options of Redis need STORAGE_OBJECT"),
    "half of TLS": (["-key", "key.pem"], "", "-key was given without -cert: TLS needs both"),
}


@pytest.mark.parametrize(("arguments", "config", "what"), OLD_OPTIONS.values(), ids=OLD_OPTIONS)
def test_an_option_that_0_4_1_took_is_refused_with_what_to_write(
    start_server: Start, save: Callable[..., None], arguments: list[str], config: str, what: str
) -> None:
    """Each is one line that names the option or the key."""
    save("config.json", config)
    server = start_server(*arguments, *(("-c", "config.json") if config else ()))
    assert server.wait() in (1, 2)
    (message,) = server.stderr.splitlines()
    assert what in message


def test_text_that_is_compared_with_bytes_is_found_with_bb(
    start_server: Start, save: Callable[..., None]
) -> None:
    """Python's option -bb makes each such comparison, else false in silence, an error record."""
    save("old.py", WITH_FILTER.format("data == 'ping' and web_socket_instance.sendMessage('pong')"))
    server = start_server("-f", "old", command=("-bb", "-m", "filtered_websocket"))
    with connect(server.url) as client:
        client.send("ping")
        wait_until(lambda: "BytesWarning" in server.stderr, "the error record")
    assert f'{Path("old.py")}", line 6, in filter' in server.stderr


def test_the_generous_limits_of_the_page(start_server: Start, save: Callable[..., None]) -> None:
    """The command that the page shows takes long messages."""
    (command,) = re.findall(
        r"```sh\nfws_server (.+)\n```", (EXAMPLES.parents[1] / GUIDE).read_text()
    )
    save("chat.py", CHAT)
    server = start_server("-f", "chat", *command.split())
    with connect(server.url, max_size=None) as client:
        client.send("x" * 5_000_000)
        assert len(recv(client)) == 5_000_000


# What to write instead


@pytest.fixture
def serve(start_server: Start, tmp_path: Path) -> Callable[..., ServerProcess]:
    """Start a server with files of `examples/from_0_4_1` and other filters, as with -f."""

    def start(*filters: str) -> ServerProcess:
        shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
        return start_server("-f", *filters)

    return start


def test_text_and_bytes(serve: Callable[..., ServerProcess]) -> None:
    """A message is bytes: compared with bytes, and read by `json` as it is."""
    with connect(serve("commands").url) as client:
        client.send("ping")
        client.send('{"add": [1, 2]}')
        assert [recv(client), recv(client)] == ["pong", "3"]


def test_throwing_out(serve: Callable[..., ServerProcess]) -> None:
    """The client is closed with a code, and the others do not get its message."""
    server = serve("throw_out", "broadcast_messages")
    with connect(server.url) as rude, connect(server.url) as other, connect(server.url) as third:
        rude.send("damn")
        with pytest.raises(ConnectionClosed) as closed:
            recv(rude)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "mind your language")
        third.send("hello")
        assert recv(other) == "hello"
    assert said(server) == []


def test_a_cookie_in_the_handshake(serve: Callable[..., ServerProcess]) -> None:
    """Without it 403; with it the client is in its group from the start."""
    server = serve("session_cookie", "broadcast_messages_by_token")
    cookie = {"Cookie": "session=4711"}
    with pytest.raises(InvalidStatus) as refused, connect(server.url):
        pass
    assert refused.value.response.status_code == 403
    with (
        connect(server.url, additional_headers=cookie) as a,
        connect(server.url, additional_headers=cookie) as b,
    ):
        a.send("hello")
        assert recv(b) == "hello"


def test_what_takes_its_time_in_a_thread(serve: Callable[..., ServerProcess]) -> None:
    """The answer comes from a thread, through `await`."""
    with connect(serve("lookup").url) as client:
        client.send("localhost")
        assert recv(client) == "127.0.0.1"


def test_a_clock(serve: Callable[..., ServerProcess]) -> None:
    """All clients are told, and the server still stops at once."""
    server = serve("clock")
    with connect(server.url) as a, connect(server.url) as b:
        assert [len(recv(client)) for client in (a, b, a)] == [8, 8, 8]
    assert server.stop() == 0
    assert said(server) == []


def test_rooms_in_the_storage_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, where what one client sends is done before the next one sends."""
    monkeypatch.syspath_prepend(EXAMPLES)
    with Pipeline("rooms") as pipeline:
        a, b = pipeline.connect(), pipeline.connect()
        a.send("nobody is there")
        for client in (a, b):
            client.send("join hall")
        b.send("hello")
        a.send("join cellar")
        b.send("is anybody left?")
        b.close()
        assert (a.received, b.received) == (["join hall", "hello"], [])
        assert pipeline.storage_object.get("hall") is None
        assert pipeline.storage_object.get("cellar") == {a.connection.id}
        assert pipeline.errors == []


def test_a_mailbox_for_each_client(serve: Callable[..., ServerProcess]) -> None:
    """It is in `state`, since `queue` is the server's."""
    with connect(serve("last_three").url) as client:
        for message in ("1", "2", "3", "4", "last"):
            client.send(message)
        assert recv(client) == "2, 3, 4"


@pytest.mark.redis
@pytest.mark.slow
def test_commands_of_redis(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """The client of the storage object is one of redis.asyncio."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (server,) = start_cluster("history", "broadcast_messages", servers=1)
    with connect(server.url) as a, connect(server.url) as b:
        a.send("one")
        a.send("two")
        assert [recv(b), recv(b)] == ["one", "two"]
    assert redis_process.connect().lrange("history", 0, -1) == [b"one", b"two"]


@pytest.mark.redis
@pytest.mark.slow
def test_items_and_gaps(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """Only what was published reaches the clients, before and after Redis was away."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (server,) = start_cluster("news", servers=1, redis_channels=["news", "other"])
    with connect(server.url) as client:
        redis_process.connect().publish("other", "not this")
        redis_process.connect().publish("news", "before")
        assert recv(client) == "BEFORE"
        redis_process.restart()
        redis_process.wait_for_servers(1)
        redis_process.connect().publish("news", "after")
        assert recv(client) == "AFTER"
    assert not any(" ERROR " in line for line in server.stderr.splitlines())
