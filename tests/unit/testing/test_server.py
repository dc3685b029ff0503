"""A real server within the process of a test."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import trustme
from websockets.sync.client import connect

from filtered_websocket.testing import Server
from filtered_websocket.typing import StartError

from ..conftest import WriteModule

SLOW = """
import asyncio, logging
from filtered_websocket.filters.base import *

class Door(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, web_socket_instance, request):
        await asyncio.sleep(float(request.query.get("wait", 0)))

class Slow(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.to_thread(logging.getLogger("slow").error, "in a thread")
        web_socket_instance.sendMessage("done")
"""


@pytest.fixture(params=["uvloop", "asyncio"])
def server(
    request: pytest.FixtureRequest, empty_chains: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    with Server("broadcast_messages") as server:
        assert type(server._loop).__module__.startswith(request.param)
        yield server


def test_other_programs_can_connect(server: Server) -> None:
    """A library and a browser get to it by its addresses, beside clients of the test."""
    alice = server.connect()
    with connect(server.url) as other:
        other.send("hi")
        server.wait_for(lambda: alice.received == ["hi"])
        alice.send(b"\xff")
        assert other.recv(timeout=10) == b"\xff"
    with urlopen(f"{server.http_url}/ready") as page:
        assert page.status == 200


def test_several_at_once(server: Server) -> None:
    """Two servers in one process have their own ports, filters and clients."""
    with Server("broadcast_messages_by_token") as second:
        assert second.url != server.url
        alice, bob, eve = server.connect(), server.connect(), second.connect()
        alice.send("hi")
        eve.send("hi")
        assert bob.received == ["hi"]
        assert eve.received == ["Error: No token has been set"]
        assert second.errors == server.errors == []


def test_closing_is_the_stop_of_a_server(server: Server) -> None:
    """Clients are closed with 1001, the thread ends, and closing twice is nothing."""
    threads = threading.active_count()
    alice, bob, carol = (server.connect() for _ in range(3))
    bob.stop_reading()
    server.close()
    server.close()
    assert (alice.close_code, bob.close_code) == (1001, 1006)
    assert threading.active_count() == threads - 1
    alice.close()
    assert repr(carol) == f"<Client {carol.connection.id} received []>"
    with pytest.raises(RuntimeError, match="closed"):
        server.connect()


def test_the_process_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_chains: None
) -> None:
    """Signals, limits, logging, the collector and what a service manager has set are not ours."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("LISTEN_FDS", "1")

    def process() -> list[object]:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        return [
            *map(signal.getsignal, numbers),
            gc.get_freeze_count(),
            resource.getrlimit(resource.RLIMIT_NOFILE),
            logging.getLogger().level,
            [handler for handler in logging.getLogger().handlers if handler not in own],
            threading.active_count() - len(own),
            dict(os.environ),
        ]

    own: list[logging.Handler] = []
    before = process()
    with Server("broadcast_messages", trace=3) as server:
        own.append(server._handler)
        server.connect().send("hi")
        assert process() == before
    own.clear()
    assert process() == before


def test_a_storage_that_does_not_start(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a server from starting is raised in the test, and nothing is left behind."""
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
    threads = threading.enumerate()
    with pytest.raises(StartError, match="away"):
        Server(storage="away")
    assert threading.enumerate() == threads


def test_a_port_of_one_s_own(server: Server) -> None:
    """A test may say which port; one that is taken is an error."""
    with pytest.raises(StartError, match="in use"):
        Server(port=int(server.url.rpartition(":")[2]))


def test_another_address(empty_chains: None) -> None:
    """A test may say where to listen, also for others than this machine."""
    with Server("broadcast_messages", host="*") as server:
        alice, bob = server.connect(), server.connect()
        alice.send("hi")
        assert bob.received == ["hi"]


def test_tls(empty_chains: None, tmp_path: Path) -> None:
    """With a certificate its clients speak TLS, and so do others."""
    authority, file = trustme.CA(), tmp_path / "both.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with Server("broadcast_messages", key=file, cert=file) as server:
        alice, bob = server.connect(), server.connect()
        alice.send("x" * 100_000)
        assert bob.received == ["x" * 100_000]
        assert server.url.startswith("wss://")
        with connect(server.url, ssl=trust) as other:
            other.send("hi")
            server.wait_for(lambda: alice.received == ["hi"])
        with urlopen(f"{server.http_url}/ready", context=trust) as page:
            assert page.status == 200


def test_filters_may_use_threads(write_module: WriteModule) -> None:
    """What they log there is in the log too, and that of another server is not."""
    write_module("slow.py", SLOW)
    with Server("slow") as server, Server("slow") as other:
        alice = server.connect("/?wait=0.05")
        alice.send("go")
        server.wait_for(lambda: alice.received == ["done"])
        assert server.errors == ["in a thread"]
        assert other.errors == []


def test_its_own_filters_may_not_use_it(server: Server) -> None:
    """What would wait for itself is an error that says so."""
    alice = server.connect()
    with pytest.raises(RuntimeError, match="not for its own filters"):
        server.call(lambda: alice.received)


def test_a_filter_that_blocks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test is not stuck for good with its server: the error says what the reason is."""
    alice, blocking, go_on = server.connect(), threading.Event(), threading.Event()
    server._loop.call_soon_threadsafe(lambda: (blocking.set(), go_on.wait(10)))
    blocking.wait(10)
    monkeypatch.setattr("filtered_websocket.testing.server.PATIENCE", 0.01)
    monkeypatch.setattr("filtered_websocket.testing.server.LONGEST_STOP", 0.01)
    with pytest.raises(TimeoutError, match="a filter blocks it"):
        alice.send("hi")
    with pytest.raises(TimeoutError, match="does not stop: a filter blocks it"):
        server.close()
    go_on.set()
    monkeypatch.undo()
    server._thread.join(10)  # type: ignore[union-attr]
    assert alice.close_code == 1001


def test_waiting_in_vain(server: Server) -> None:
    """What does not happen is an error when the time is over."""
    with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
        server.wait_for(lambda: False, seconds=0.01)
