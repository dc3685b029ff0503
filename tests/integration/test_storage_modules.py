"""Storage objects of one's own: their options, their published items, their end."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ..process import ServerProcess, told, wait_until

Start = Callable[..., ServerProcess]

ENVIRON = {"STORAGE_OBJECT_MODULE": "my_storage"}

WITH_OPTIONS = """\
from filtered_websocket.storage_objects import default

class StorageObject(default.StorageObject):
    @classmethod
    def parser(cls, parser):
        parser.add_argument("--limit", type=int, default=1, help="how many")
        parser.add_argument("--rooms", nargs="*", default=["hall"])
        parser.add_argument("--strict", action="store_true")
        return parser
"""

TELL_OPTIONS = """\
from filtered_websocket.filters.base import WebSocketMessageFilter

class TellOptions(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        options = web_socket_instance.storage_object.options
        web_socket_instance.sendMessage(f"{options.limit!r} {options.rooms!r} {options.strict!r}")
"""

ARGUMENTS = ("--limit", "4", "--rooms", "a", "b", "--strict")
VARIABLES = {"FWS_LIMIT": "3", "FWS_ROOMS": "c,d", "FWS_STRICT": "yes"}
CONFIG = {"limit": "2", "rooms": ["e"], "flags": ["strict"]}


@pytest.mark.parametrize(
    ("arguments", "variables", "config", "told"),
    [
        ((), {}, {}, "1 ['hall'] False"),
        ((), {}, CONFIG, "2 ['e'] True"),
        ((), VARIABLES, CONFIG, "3 ['c', 'd'] True"),
        (ARGUMENTS, VARIABLES, CONFIG, "4 ['a', 'b'] True"),
        (ARGUMENTS, {}, {}, "4 ['a', 'b'] True"),
    ],
    ids=["defaults", "config", "environment wins over config", "command line wins", "command line"],
)
def test_options_of_a_storage_object_come_from_everywhere(
    start_server: Start,
    tmp_path: Path,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    config: dict[str, object],
    told: str,
) -> None:
    """What `parser` adds is read as the server's own options are, and reaches the object."""
    (tmp_path / "my_storage.py").write_text(WITH_OPTIONS)
    (tmp_path / "tell_options.py").write_text(TELL_OPTIONS)
    (tmp_path / "config.json").write_text(json.dumps(config))
    server = start_server(
        *("-f", "tell_options", "-c", "config.json", *arguments), environ=ENVIRON | variables
    )
    with connect(server.url) as client:
        client.send("?")
        assert client.recv(timeout=5) == told
    assert "storage: my_storage.StorageObject" in server.stderr
    assert "WARNING" not in server.stderr


def test_options_of_a_storage_object_are_in_the_help(start_server: Start, tmp_path: Path) -> None:
    """`-h` shows the options of the storage object that the environment names."""
    (tmp_path / "my_storage.py").write_text(WITH_OPTIONS)
    server = start_server("-h", environ=ENVIRON)
    assert server.wait() == 0
    assert "--limit LIMIT" in server.stdout
    assert "how many" in server.stdout


@pytest.mark.parametrize("arguments", [("--limit", "many"), ("--limt", "2")])
def test_wrong_option_of_a_storage_object_is_refused(
    start_server: Start, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """They are checked as the server's own options are."""
    (tmp_path / "my_storage.py").write_text(WITH_OPTIONS)
    server = start_server(*arguments, environ=ENVIRON)
    assert server.wait() == 2
    assert "--limit" in server.stderr
    assert len(server.stderr.splitlines()) == 1


# Pub/sub, with a queue in memory in the place of a broker

PUB_SUB = """\
from queue import Queue
from filtered_websocket.storage_objects.base import BasePubSubStorageObject
from filtered_websocket.storage_objects.subscribers.base import BaseSubscriber

class Subscriber(BaseSubscriber):
    def listener(self, web_socket_instance):
        for item in iter(self.client.get, None):
            web_socket_instance.queue.put(item)
        print("the listener returned", flush=True)

    def kill(self):
        print("killed", flush=True)
        self.client.put(None)

class StorageObject(BasePubSubStorageObject):
    def __init__(self, options):
        super().__init__(options)
        self.broker = Queue()

    def publish(self, channel, data):
        item = {"type": "message", "pattern": None, "channel": channel.encode(), "data": data}
        self.broker.put(item)

    def get_client(self):
        return self.broker

    @classmethod
    def get_subscriber(cls):
        return Subscriber
"""

PUBLISH = """\
from filtered_websocket.filters.base import WebSocketMessageFilter

class Publish(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.storage_object.publish("news", bytes(msg))
"""


@pytest.fixture
def pub_sub(tmp_path: Path) -> None:
    """Put a storage object with pub/sub, and a filter that publishes, where servers start."""
    (tmp_path / "my_storage.py").write_text(PUB_SUB)
    (tmp_path / "publish.py").write_text(PUBLISH)


@pytest.mark.usefixtures("pub_sub")
def test_published_items_go_down_the_consumer_chain(start_server: Start) -> None:
    """What the subscriber's thread puts on the queue is printed, and sent to all, in order."""
    server = start_server("-f", "publish", "stdout_pubsub", "broadcast_pubsub", environ=ENVIRON)
    messages = ["one", "grüße", b"\xff\x00", "two"]
    with connect(server.url) as a, connect(server.url) as b:
        for message in messages:
            a.send(message)
        for client in (a, b):
            assert [client.recv(timeout=5) for _ in messages] == messages
    wait_until(lambda: server.stdout.count("--PUBSUB--\n") == len(messages), "the printed items")
    item = {"type": "message", "pattern": None, "channel": "news", "data": "one"}
    assert server.stdout.startswith(f"--PUBSUB--\n{item}\n--PUBSUB--\n")
    assert "b'" not in server.stdout


@pytest.mark.usefixtures("pub_sub")
def test_consumer_filter_gets_the_server(start_server: Start, tmp_path: Path) -> None:
    """In the consumer chain `web_socket_instance` is the server, and may put more on its queue."""
    (tmp_path / "count_down.py").write_text(
        "from filtered_websocket.filters.base import WebSocketConsumerFilter\n"
        "class CountDown(WebSocketConsumerFilter):\n"
        "    @classmethod\n"
        "    def filter(cls, server, item):\n"
        "        server.users.broadcast(f\"{item['data'].decode()} {server.token}\")\n"
        "        if item['data'] != b'0':\n"
        "            server.queue.put({'data': str(int(item['data']) - 1).encode()})\n"
    )
    server = start_server("-f", "publish", "count_down", environ=ENVIRON)
    with connect(server.url) as client:
        client.send("2")
        heard = [client.recv(timeout=5) for _ in "210"]
    assert heard == ["2 None", "1 None", "0 None"]


@pytest.mark.usefixtures("pub_sub")
def test_subscriber_is_killed_once_when_the_server_stops(start_server: Start) -> None:
    """`kill` is called, and the server ends with 0."""
    server = start_server("-f", environ=ENVIRON)
    assert server.port
    assert server.stop() == 0
    assert server.stdout.count("killed\n") == 1


@pytest.mark.usefixtures("pub_sub")
def test_subscriber_is_killed_when_the_start_fails(start_server: Start) -> None:
    """A subscriber that was started is killed when the port turns out to be in use."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = start_server("-f", port=other.getsockname()[1], environ=ENVIRON)
        assert server.wait() == 1
    assert "killed\n" in server.stdout
    assert "the port is in use" in server.stderr


@pytest.mark.usefixtures("pub_sub")
@pytest.mark.parametrize("failing", ["return self.broker", "return Subscriber"])
def test_storage_that_cannot_reach_its_broker_is_refused(
    start_server: Start, tmp_path: Path, failing: str
) -> None:
    """A client or subscriber that cannot be made ends the start with one line."""
    source = PUB_SUB.replace(failing, 'raise ConnectionError("the broker is away")')
    (tmp_path / "my_storage.py").write_text(source)
    server = start_server("-f", environ=ENVIRON)
    assert server.wait() == 1
    assert "my_storage.StorageObject" in server.stderr
    assert "ConnectionError: the broker is away" in server.stderr
    assert len(server.stderr.splitlines()) == 1


@pytest.mark.usefixtures("pub_sub")
@pytest.mark.parametrize("method", ["listener(self, web_socket_instance)", "kill(self)"])
def test_subscriber_that_fails_costs_one_record(
    start_server: Start, tmp_path: Path, method: str
) -> None:
    """The record names the subscriber; the server serves on and stops with 0."""
    source = PUB_SUB.replace(f"def {method}:", f"def {method}:\n        1 / 0")
    (tmp_path / "my_storage.py").write_text(source)
    server = start_server("-f", "publish", environ=ENVIRON)
    with connect(server.url):
        pass
    assert server.stop() == 0
    assert server.stderr.count("ERROR") == told(server.stderr, "ZeroDivisionError: ") == 1
    assert "my_storage.Subscriber" in server.stderr
