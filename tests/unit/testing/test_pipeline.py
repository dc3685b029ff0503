"""A pipeline in memory: what authors of filters test with."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from typing import Any

import pytest

from filtered_websocket.storage_objects.base import StorageError
from filtered_websocket.testing import Pipeline, Refused

from ..conftest import WriteModule

SHOUT = """
from filtered_websocket.filters.base import WebSocketMessageFilter

class Shout(WebSocketMessageFilter):
    heard = []

    @classmethod
    def filter(cls, web_socket_instance, msg):
        cls.heard.append(bytes(msg))
        return msg.upper()
"""

AUTH = """
from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

class Auth(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if "user" not in request.query:
            raise RejectHandshake(401, "who are you?", {"WWW-Authenticate": "Basic"})
        web_socket_instance.token = request.query["user"], request.headers["X-From"], request.peer
        web_socket_instance.response_headers["X-Hello"] = request.path
"""

SLOW = """
import asyncio
from filtered_websocket.filters.base import *

class SlowDoor(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, web_socket_instance, request):
        await asyncio.sleep(float(request.query["wait"]))

class SlowMessage(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(1)
"""

EVENTS = """
from filtered_websocket.filters.base import *

events = []

class Connected(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage("welcome")

class Gone(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        events.append(web_socket_instance.id)
        web_socket_instance.storage_object.add("gone", web_socket_instance.id)

class Item(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, server, item):
        if item is None:
            raise ValueError("no item")
        server.users.broadcast(item)

class Raw(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        events.append(bytes(data[:4]))
"""


def test_two_pipelines_know_nothing_of_each_other(write_module: WriteModule) -> None:
    """At the same time or one after the other, each has its modules, filters and clients."""
    write_module("shout.py", SHOUT)
    with Pipeline("shout", "broadcast_messages") as loud, Pipeline("broadcast_messages") as quiet:
        for pipeline in (loud, quiet):
            alice, bob = pipeline.connect(), pipeline.connect()
            alice.send("hi")
            assert bob.received == (["HI"] if pipeline is loud else ["hi"])
        assert loud.module("shout").Shout.heard == [b"hi"]
    with Pipeline("shout") as third:
        assert third.module("shout").Shout.heard == []
    assert "shout" not in sys.modules


def test_the_handshake_chain_decides(write_module: WriteModule) -> None:
    """Path, query, headers and address reach it; a refusal is an exception with all the answer."""
    write_module("auth.py", AUTH)
    with Pipeline("auth") as pipeline:
        with pytest.raises(Refused) as refused:
            pipeline.connect()
        assert (refused.value.status, refused.value.reason) == (401, "who are you?")
        assert refused.value.headers["www-authenticate"] == "Basic"
        alice = pipeline.connect("/room?user=al", {"X-From": "here"}, peer="192.0.2.7")
        assert alice.connection.token == ("al", "here", "192.0.2.7")
        assert alice.response_headers["x-hello"] == "/room"


def test_a_server_that_says_nothing(write_module: WriteModule) -> None:
    """A data filter may end a connection before it has an answer: that is a refusal too."""
    source = """
    from filtered_websocket.filters.base import WebSocketDataFilter

    class Silent(WebSocketDataFilter):
        @classmethod
        def filter(cls, web_socket_instance, data):
            web_socket_instance.abortConnection()
    """
    write_module("silent.py", source)
    with Pipeline("silent") as pipeline, pytest.raises(Refused) as refused:
        pipeline.connect()
    assert (refused.value.status, refused.value.headers) == (0, {})


def test_async_filters_take_as_long_as_they_say(write_module: WriteModule) -> None:
    """Opening waits for them, messages wait until the test lets the time pass."""
    write_module("slow.py", SLOW)
    with Pipeline("slow", "broadcast_messages", handshake_timeout=5) as pipeline:
        alice, bob = pipeline.connect("/?wait=2"), pipeline.connect("/?wait=0")
        alice.send("one")
        alice.send("two")
        pipeline.advance(0.99)
        assert bob.received == []
        pipeline.advance(0.02)
        assert bob.received == ["one"]
        pipeline.advance(1)
        assert bob.received == ["one", "two"]
        with pytest.raises(Refused, match="408"):
            pipeline.connect("/?wait=6")


def test_all_events_reach_their_chains(write_module: WriteModule) -> None:
    """Connect, disconnect, raw data and items of the queue run their filters."""
    write_module("events.py", EVENTS)
    with Pipeline("events") as pipeline:
        events = pipeline.module("events").events
        alice = pipeline.connect()
        assert alice.received == ["welcome"]
        pipeline.put("news")
        assert alice.received == ["welcome", "news"]
        alice.close()
        assert events[0] == b"GET " and events[-1] == alice.connection.id
        assert pipeline.storage_object.get("gone") == {alice.connection.id}


def test_closing_is_the_stop_of_a_server(write_module: WriteModule) -> None:
    """Clients are closed with 1001, disconnect filters run, and closing twice is nothing."""
    write_module("events.py", EVENTS)
    pipeline = Pipeline("events")
    alice = pipeline.connect()
    pipeline.close()
    pipeline.close()
    assert alice.close_code == 1001
    assert alice.connection.id in pipeline.module("events").events


def test_errors_of_filters_are_there_to_look_at(write_module: WriteModule) -> None:
    """A filter that fails has its line in `errors`, as the server logs it, and only there."""
    write_module("events.py", EVENTS)
    with Pipeline("events") as other, Pipeline("events") as pipeline:
        pipeline.put(None)
        assert len(pipeline.errors) == 1
        assert "events.Item failed" in pipeline.errors[0]
        assert "ValueError: no item" in pipeline.errors[0]
        assert pipeline.log[-1].levelno == logging.ERROR
        assert other.errors == []


def test_options_are_those_of_the_server(empty_chains: None) -> None:
    """An option is a keyword, whatever its type; lists and flags work too."""
    options: dict[str, Any] = {"rate": 1, "no_console": True, "origins": ["https://chat.example"]}
    with Pipeline("broadcast_messages", **options) as pipeline:
        with pytest.raises(Refused, match="403"):
            pipeline.connect(headers={"Origin": "https://other.example"})
        alice, bob = (
            pipeline.connect(),
            pipeline.connect(headers=[("Origin", options["origins"][0])]),
        )
        for text in ("1", "2", "3"):
            alice.send(text)
        assert bob.received == ["1"]
        pipeline.advance(2)
        assert bob.received == ["1", "2", "3"]


def test_groups_by_token(empty_chains: None) -> None:
    """The bundled token filter works with the storage of the pipeline."""
    with Pipeline("broadcast_messages_by_token") as pipeline:
        alice, bob, eve = (pipeline.connect() for _ in range(3))
        for client in (alice, bob):
            client.send("token:room")
        alice.send("hi")
        assert bob.received[-1] == "hi"
        assert eve.received == []


def test_a_storage_that_does_not_start(write_module: WriteModule) -> None:
    """What a storage raises at its start is raised."""
    source = """
    from contextlib import asynccontextmanager
    from filtered_websocket.storage_objects.base import BaseStorageObject, StorageError

    class StorageObject(BaseStorageObject):
        @asynccontextmanager
        async def running(self, server):
            raise StorageError("away")
            yield
    """
    write_module("away.py", source)
    with pytest.raises(StorageError, match="away"):
        Pipeline(storage="away")


def test_waiting_takes_no_real_time(write_module: WriteModule) -> None:
    """`wait_for` lets as much time pass as it takes, and no more than it may."""
    write_module("slow.py", SLOW)
    with Pipeline("slow", "broadcast_messages") as pipeline:
        alice, bob = pipeline.connect("/?wait=0"), pipeline.connect("/?wait=0")
        alice.send("one")
        alice.send("two")
        pipeline.wait_for(lambda: bob.received)
        assert bob.received == ["one"]
        with pytest.raises(TimeoutError, match=r"0\.9 seconds"):
            pipeline.wait_for(lambda: len(bob.received) == 2, seconds=0.9)
        pipeline.advance(0.1)
        assert bob.received == ["one", "two"]


async def test_an_async_test_is_told_what_to_do(empty_chains: None) -> None:
    """The error is all there is: nothing is left unawaited or open."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match="in `def test"):
            Pipeline("broadcast_messages")
        gc.collect()
    assert warned == []


def test_after_its_end_it_says_so(empty_chains: None) -> None:
    """What a test still asks of a closed pipeline names the reason."""
    pipeline = Pipeline("broadcast_messages")
    alice = pipeline.connect()
    pipeline.close()
    for use in (
        pipeline.connect,
        alice.vanish,
        lambda: pipeline.put("item"),
        lambda: pipeline.advance(1),
    ):
        with pytest.raises(RuntimeError, match="the pipeline is closed"):
            use()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_go_back(seconds: float, empty_chains: None) -> None:
    """A difference of two times that has the wrong sign is an error of the test."""
    with Pipeline() as pipeline, pytest.raises(ValueError, match="time does not go back"):
        pipeline.advance(seconds)
