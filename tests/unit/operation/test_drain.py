"""Closing the clients of a server that stops."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest

from filtered_websocket.filters.base import WebSocketDisconnectFilter
from filtered_websocket.operation import drain
from filtered_websocket.operation.drain import LONGEST_PAUSE, Drain
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.server_protocol.limits import Limits

from ..conftest import add
from ..server_protocol.fakes import FakeTransport

pytestmark = pytest.mark.usefixtures("empty_chains")

sleep = asyncio.sleep


class Clock:
    """The time of a drain, which passes when it sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(drain.asyncio, "sleep", self.sleep)

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await sleep(0)


class Scene:
    """A server with clients that answer at once, and the times at which each was closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
        self.clock = Clock(monkeypatch)
        self.server = FilteredWebSocketFactory(limits=Limits(**limits))  # type: ignore[arg-type]
        self.closed: list[tuple[float, Any]] = []
        add(WebSocketDisconnectFilter, self._on_disconnect)
        self.server.disconnect_chain = WebSocketDisconnectFilter.chain()

    def _on_disconnect(self, client: Any, data: None) -> None:
        self.closed.append((self.clock.now - 100, client))
        if not client.state.get("deaf"):
            asyncio.get_running_loop().call_soon(client.connection_lost, None)

    def connect(self, count: int = 1, *, deaf: bool = False) -> list[FilteredWebSocket]:
        clients = [self.server.buildProtocol("192.0.2.1") for _ in range(count)]
        for client in clients:
            client.open(FakeTransport())  # type: ignore[arg-type]
            client.state["deaf"] = deaf
        return clients

    def drain(self, seconds: float = 5.0, code: int = 1001) -> Drain:
        found = Drain(self.server, seconds, code)
        found._loop = self.clock  # type: ignore[assignment]
        return found

    async def run(self, seconds: float = 5.0, code: int = 1001) -> list[float]:
        await self.drain(seconds, code).run(lambda: False)
        return [when for when, _ in self.closed]


async def test_many_are_closed_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand take all of the seconds, the same pause between each two."""
    scene = Scene(monkeypatch)
    scene.connect(1000)
    assert await scene.run(5.0) == pytest.approx([number * 0.005 for number in range(1000)])


async def test_few_are_closed_without_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause between two closes is never longer than 20 ms."""
    scene = Scene(monkeypatch)
    scene.connect(3)
    assert await scene.run(60.0) == pytest.approx([0, LONGEST_PAUSE, 2 * LONGEST_PAUSE])


async def test_without_seconds_there_are_no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are closed at once, but the event loop gets its turn between any two."""
    scene = Scene(monkeypatch)
    scene.connect(100)
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        if len(scene.closed) < 100:
            asyncio.get_running_loop().call_soon(count)

    count()
    assert await scene.run(0.0) == [0.0] * 100
    assert turns >= 100


async def test_the_order_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came together do not go together."""
    scene = Scene(monkeypatch)
    clients = scene.connect(100)
    await scene.run()
    order = [client for _, client in scene.closed]
    assert order != clients
    assert set(order) == set(clients)


@pytest.mark.parametrize("code", [1001, 1012])
async def test_the_code_is_sent(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Clients are told why they are closed."""
    scene = Scene(monkeypatch)
    (client,) = scene.connect()
    transport: Any = client.transport
    await scene.run(code=code)
    assert transport.close_codes == [code]


async def test_who_does_not_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the close timeout the socket is closed, which the log counts."""
    scene = Scene(monkeypatch, close_timeout=0.01)
    scene.connect(2)
    (deaf,) = scene.connect(deaf=True)
    transport: Any = deaf.transport
    aborted = transport.abort

    def abort() -> None:
        aborted()
        asyncio.get_running_loop().call_soon(deaf.connection_lost, None)

    transport.abort = abort
    await scene.run()
    assert transport.aborted
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == "cut off 1 client that did not answer within 0.01 s"


async def test_progress_is_logged_each_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start, about each second, and at the end."""
    caplog.set_level(logging.INFO, "filtered_websocket")
    scene = Scene(monkeypatch)
    scene.connect(1000)
    await scene.run(3.0, 1012)
    first, *progress, _, last = [record.getMessage() for record in caplog.records]
    assert first == "closing 1000 clients within 3.0 s, with 1012"
    assert last == "closed 1000 clients"
    assert len(progress) == 2
    assert all(re.fullmatch(r"closed \d+ of 1000 clients", line) for line in progress)


async def test_nobody_there_is_no_news(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without clients nothing is logged, and no time passes."""
    caplog.set_level(logging.INFO, "filtered_websocket")
    scene = Scene(monkeypatch)
    await scene.run()
    assert scene.clock.now == 100
    assert caplog.records == []


async def test_who_is_closed_by_a_filter_is_not_closed_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disconnect filter may close others that were still to come."""
    scene = Scene(monkeypatch)
    scene.connect(10)
    add(
        WebSocketDisconnectFilter,
        lambda client, _: [other.loseConnection(3000) for other in client.users.values()],
    )
    scene.server.disconnect_chain = WebSocketDisconnectFilter.chain()
    await scene.run()
    assert len(scene.closed) == len({client for _, client in scene.closed}) == 10


async def test_newcomers_are_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that was under way may end in a connection, which is closed like the others."""
    scene = Scene(monkeypatch)
    under_way = 3

    def has_newcomers() -> bool:
        nonlocal under_way
        if not under_way:
            return False
        under_way -= 1
        scene.connect()
        return True

    await scene.drain().run(has_newcomers)
    assert len(scene.closed) == 3
    assert not scene.server.users


async def test_newcomers_have_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes that do not end do not keep the server."""
    scene = Scene(monkeypatch)
    await scene.drain().run(lambda: True)
    assert scene.clock.now - 100 == pytest.approx(drain.NEWCOMERS, abs=2 * LONGEST_PAUSE)


async def test_filters_have_what_is_left_of_the_close_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It counts from the last close."""
    scene = Scene(monkeypatch)
    scene.connect()
    found = scene.drain()
    await found.run(lambda: False)
    scene.clock.now = 101.0
    assert found.grace() == pytest.approx(Limits().close_timeout - 1.0)
    scene.clock.now = 200.0
    assert found.grace() == 0
