"""What `filtered_websocket.testing` promises: a pipeline in memory does what a server does.

Each test runs in memory and over real sockets, on both event loops, and expects the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from filtered_websocket.filters import base
from filtered_websocket.testing import Client, Pipeline, Refused, Server
from filtered_websocket.testing.client import request
from filtered_websocket.testing.filter_run import FilterRun

from .wire import save_filters

Start = Callable[..., Any]
WAYS = ["in memory", "uvloop", "asyncio"]

DOOR = """
class Door(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.path == "/closed":
            raise RejectHandshake(403, "not here", {"Retry-After": "7"})
        if request.path == "/broken":
            raise LookupError("no such room")
        web_socket_instance.token = request.query.get("token")
        web_socket_instance.response_headers["X-Peer"] = request.peer

class Welcome(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        if web_socket_instance.request.path == "/full":
            web_socket_instance.loseConnection(4003, "full")
        if web_socket_instance.request.path == "/cut":
            web_socket_instance.abortConnection()

class Guard(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"fail":
            raise ValueError("as asked for")
        if msg == b"kick":
            web_socket_instance.loseConnection(4001, "kicked")
            raise DropMessage

class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.users.broadcast("somebody left")

class Items(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, server, item):
        if not isinstance(item, dict):
            raise TypeError("no dict")
"""

SLOW = """
class Slow(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(0.05)
        if msg == b"fail":
            raise ValueError("late")
        return msg.upper()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the test, with modules that can be imported."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    save_filters(tmp_path, "door", DOOR)
    save_filters(tmp_path, "slow", SLOW)
    return tmp_path


@pytest.fixture(params=WAYS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, here: Path) -> Start:
    """What starts filters one way: `fws_pipeline`, or `fws_server` on an event loop."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    name = "fws_pipeline" if request.param == "in memory" else "fws_server"
    make: Start = request.getfixturevalue(name)
    return make


def test_broadcast_messages(start: Start) -> None:
    """Text and binary, in fragments and large, reach all but their sender."""
    run = start("broadcast_messages")
    alice, bob, carol = (run.connect() for _ in range(3))
    alice.send("hi")
    alice.send(b"\xff\x00")
    alice.send_fragments(["a", "", "b"])
    bob.send("x" * 300_000)
    assert alice.received == ["x" * 300_000]
    assert bob.received == ["hi", b"\xff\x00", "ab"]
    assert carol.received == [*bob.received, *alice.received]
    assert all(client.is_open for client in (alice, bob, carol))
    assert run.errors == []


def test_broadcast_messages_by_token(start: Start) -> None:
    """Groups, by message and by handshake, are in the storage until their members leave."""
    run = start("door", "broadcast_messages_by_token")
    alice, bob, eve = run.connect("/?token=room"), run.connect(), run.connect()
    assert alice.connection.token == "room"
    eve.send("hello?")
    bob.send("token:room")
    alice.send("hi")
    bob.send(b"\x01")
    assert alice.received == [b"\x01"]
    assert bob.received == ["Successfully registered with broadcast group: room", "hi"]
    assert eve.received == ["Error: No token has been set"]
    both = {alice.connection.id, bob.connection.id}
    assert run.call(lambda: set(run.storage_object.get("room"))) == both
    bob.send("token:other")
    alice.vanish()
    assert run.call(lambda: set(run.storage_object.get("room") or ())) == set()
    assert run.call(lambda: set(run.storage_object.get("other"))) == {bob.connection.id}


def test_broadcast_pubsub(start: Start) -> None:
    """Items go to everybody, as text where they are; a wrong one is an error."""
    run = start("broadcast_pubsub")
    alice, bob = run.connect(), run.connect()
    run.put({"type": "message", "data": b"news"})
    run.put({"type": "message", "data": b"\xff"})
    run.put({"type": "gap", "data": None})
    run.put({"type": "message"})
    assert alice.received == bob.received == ["news", b"\xff"]
    name = "filtered_websocket.filters.broadcast_pubsub.BroadcastPubSubFilter"
    assert run.errors == [f"filter {name} failed: KeyError: 'data'"]


def test_stdout_messages(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Each message is printed after the id of its sender, what is no text with escapes."""
    run = start("stdout_messages")
    alice = run.connect()
    alice.send("hé")
    alice.send(b"\xff")
    id = alice.connection.id
    expected = f"--MESSAGE--\n{id} => hé\n--MESSAGE--\n{id} => \\xff\n"
    assert capsys.readouterr().out == expected


def test_stdout_pubsub(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Each item is printed once the test has put it."""
    run = start("stdout_pubsub")
    run.put({"type": "message", "data": b"news"})
    run.put(7)
    expected = "--PUBSUB--\n{'type': 'message', 'data': 'news'}\n--PUBSUB--\n7\n"
    assert capsys.readouterr().out == expected


def test_stdout_rawdata(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A data filter sees the bytes of the test and no others, chunk for chunk."""
    run = start("stdout_rawdata")
    alice = run.connect("/x")
    alice.send("hi")
    alice.send_raw(b"\x81")
    alice.send_raw(b"\x81\0\0\0\0x")
    assert alice.is_open
    alice.close(4000)
    chunks = [request("/x", ()), b"\x81\x82\0\0\0\0hi", b"\x81", b"\x81\0\0\0\0x"]
    chunks.append(b"\x88\x82\0\0\0\0\x0f\xa0")
    printed = [f"--RAWDATA--\n{chunk.decode(errors='backslashreplace')}\n" for chunk in chunks]
    assert capsys.readouterr().out == "".join(printed)


def test_each_bundled_filter_has_its_test() -> None:
    """A new file in `filters/` needs a test that is named after it."""
    names = {path.stem for path in Path(base.__file__).parent.glob("*.py")}
    assert {f"test_{name}" for name in names - {"__init__", "base", "metered"}} <= set(globals())


def test_refusals(start: Start) -> None:
    """Status, reason and headers of an answer that is no 101, whoever has given it."""
    run = start("door", origins=["https://chat.example"])
    answers = []
    headers: dict[str, str]
    for path, headers in (
        ("/closed", {}),
        ("/broken", {}),
        ("/", {"Origin": "https://other.example"}),
        ("/", {"Sec-WebSocket-Version": "12"}),
        ("/", {"Upgrade": "no"}),
    ):
        with pytest.raises(Refused) as refused:
            run.connect(path, headers)
        answers.append((refused.value.status, refused.value.reason, refused.value.headers))
    assert [(status, reason) for status, reason, _ in answers[:3]] == [
        (403, "not here"),
        (500, "the server could not check this connection"),
        (403, "pages of this origin may not connect here"),
    ]
    assert answers[0][2]["retry-after"] == "7"
    assert answers[3][2]["sec-websocket-version"] == "13"
    assert [status for status, *_ in answers[3:]] == [426, 426]
    assert run.errors == ["filter door.Door failed: LookupError: no such room"]
    assert run.connect("/", {"Origin": "https://chat.example"}).is_open


def test_where_clients_come_from(start: Start) -> None:
    """The address of a client, and headers of the answer, are those of the test."""
    run = start("door", max_connections_per_ip=1)
    alice = run.connect(peer="127.0.0.7")
    assert alice.response_headers["x-peer"] == alice.connection.request.peer == "127.0.0.7"
    with pytest.raises(Refused, match="503|429"):
        run.connect(peer="127.0.0.7")
    assert run.connect(peer="127.0.0.8").is_open


def test_who_closes_and_how(start: Start) -> None:
    """Codes and reasons of filters, clients and the protocol; disconnect filters have run."""
    run = start("door", "broadcast_messages")
    bob = run.connect()

    def end(act: Callable[[Client], object], path: str = "/") -> tuple[int | None, str]:
        client = run.connect(path)
        act(client)
        assert not client.is_open and list(run.server.users) == [bob.connection.id]
        return client.close_code, client.close_reason

    assert end(lambda client: client.send("kick")) == (4001, "kicked")
    assert end(lambda client: client.close(4002, "bye")) == (4002, "")
    assert end(lambda client: client.vanish()) == (1006, "")
    assert end(lambda client: client.send_raw(b"\xff" * 9))[0] == 1002
    assert end(lambda client: client.send_raw(b"\x81\x81\0\0\0\0\xff"))[0] == 1007
    assert end(lambda client: client.received, "/full") == (4003, "full")
    assert end(lambda client: client.received, "/cut") == (1006, "")
    by_filter = [
        lambda c: c.connection.loseConnection(4004),
        lambda c: c.connection.abortConnection(),
    ]
    assert end(lambda client: run.call(lambda: by_filter[0](client))) == (4004, "")
    assert end(lambda client: run.call(lambda: by_filter[1](client))) == (1006, "")
    assert bob.received == ["somebody left"] * 9
    run.close()
    assert (bob.close_code, bob.close_reason) == (1001, "the server stops")
    with pytest.raises(RuntimeError, match="closed, with 1001"):
        bob.send("late")


def test_errors_of_filters(start: Start) -> None:
    """A filter that fails ends its chain, and is logged with what it has raised."""
    run = start("door", "broadcast_messages")
    alice, bob = run.connect(), run.connect()
    alice.send("fail")
    run.put("no dict")
    alice.send("hi")
    assert bob.received == ["hi"]
    assert run.errors == [
        "filter door.Guard failed: ValueError: as asked for",
        "filter door.Items failed: TypeError: no dict",
    ]


def test_async_filters(start: Start) -> None:
    """What takes time comes in order, after its time, and so do errors and the disconnect."""
    run = start("slow", "broadcast_messages")
    alice, bob = run.connect(), run.connect()
    for text in ("one", "fail", "two"):
        alice.send(text)
    assert bob.received == []
    run.wait_for(lambda: len(bob.received) == 2)
    assert bob.received == ["ONE", "TWO"]
    assert run.errors == ["filter slow.Slow failed: ValueError: late"]
    with pytest.raises(TimeoutError, match="0.01"):
        run.wait_for(lambda: len(bob.received) == 3, seconds=0.01)


def test_a_rate(start: Start) -> None:
    """Who is faster than `--rate` waits: a test goes on, and may wait for it."""
    run = start("broadcast_messages", rate=20, rate_burst=1)
    alice, bob = run.connect(), run.connect()
    for text in ("1", "2", "3"):
        alice.send(text)
    run.wait_for(lambda: bob.received == ["1", "2", "3"])
    assert alice.is_open


def test_a_slow_reader(start: Start) -> None:
    """Who does not read is closed when more waits than may, and the others are not."""
    run = start("broadcast_messages", max_queue_bytes=100_000, max_message_size=9_000_000)
    alice, bob, carol = (run.connect() for _ in range(3))
    bob.stop_reading()
    alice.send("early")
    for _ in range(4):  # more than the kernel takes
        alice.send("x" * 8_000_000)
        if isinstance(run, Pipeline):
            break
    bob.go_on_reading()
    assert bob.close_code == 1013
    assert alice.is_open and carol.is_open
    assert carol.received[0] == "early"


# Whatever happens

CLIENTS = st.integers(0, 2)
TEXTS = st.sampled_from(["hi", "token:a", "token:b", "fail", "kick", ""]) | st.text(max_size=200)
EVENTS = st.one_of(
    st.tuples(st.just("send"), CLIENTS, TEXTS),
    st.tuples(st.just("send"), CLIENTS, st.binary(max_size=200)),
    st.tuples(st.just("send_fragments"), CLIENTS, st.lists(TEXTS, min_size=1, max_size=3)),
    st.tuples(st.just("send_raw"), CLIENTS, st.binary(max_size=20)),
    st.tuples(st.just("close"), CLIENTS, st.sampled_from([1000, 3000, 4999])),
    st.tuples(st.just("vanish"), CLIENTS),
    st.tuples(st.just("put"), st.sampled_from([{"data": b"news"}, {"data": b"\xff"}, {}, None])),
)
PATHS = st.sampled_from(["/", "/?token=a", "/closed", "/full", "/cut", "/broken"])


def outcome(run: FilterRun, paths: list[str], story: list[tuple[Any, ...]]) -> list[Any]:
    """Play a story; return what was seen of it, by clients, in the storage and in the log."""
    clients: list[Client | None] = []
    seen: list[Any] = []
    for path in paths:
        try:
            clients.append(run.connect(path))
        except Refused as refused:
            clients.append(None)
            seen.append((refused.status, refused.reason, refused.headers))
    for name, *arguments in story:
        if name == "put":
            run.put(*arguments)
            continue
        client = clients[arguments[0]]
        if client is not None and client.is_open:
            getattr(client, name)(*arguments[1:])
    there = [client for client in clients if client is not None]
    ids = {client.connection.id: number for number, client in enumerate(there)}
    seen.append([ids[id] for id in run.server.users])
    groups = [run.call(lambda key=key: run.storage_object.get(key)) for key in "ab"]  # type: ignore[misc]
    seen += [sorted(ids[id] for id in group or ()) for group in groups]
    seen += [(list(c.received), c.response_headers) for c in there]
    run.close()  # a server closes its clients in random order
    seen += [(c.close_code, c.close_reason) for c in there]
    return [*seen, run.errors]


@pytest.fixture(params=WAYS[1:])
def make_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    yield Server


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(paths=st.tuples(PATHS, PATHS, PATHS), story=st.lists(EVENTS, max_size=15))
def test_any_story_has_the_same_end(
    here: Path, make_server: Start, paths: tuple[str, ...], story: list[tuple[Any, ...]]
) -> None:
    """What clients send, and how they leave, has the same outcome in memory and over sockets."""
    filters = ("door", "broadcast_pubsub", "broadcast_messages_by_token", "broadcast_messages")
    outcomes = []
    for make in (Pipeline, make_server):
        with make(*filters) as run:
            outcomes.append(outcome(run, list(paths), story))
    assert outcomes[0] == outcomes[1]
