"""The figures of a server, and that they add up."""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filtered_websocket.operation.metrics import ServerCollector
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.storage_objects.default import StorageObject
from filtered_websocket.testing import Client, Pipeline, Refused

from .chaos import LETTERS, PLACES

SYNC, ASYNC = (f"{__package__}.chaos_{kind}" for kind in ("sync", "async"))

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(collector: ServerCollector) -> Figures:
    """Return what Prometheus would read of the server."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def value(figures: Figures, name: str, **labels: str) -> float:
    return figures[f"fws_{name}", frozenset(labels.items())]


def imbalances(figures: Figures) -> dict[str, float]:
    """Return the ledgers that do not add up."""
    ledgers = {
        dict(labels)["ledger"]: amount
        for (name, labels), amount in figures.items()
        if name == "fws_ledger_imbalance"
    }
    assert len(ledgers) > 10
    return {ledger: amount for ledger, amount in ledgers.items() if amount}


def metered_pipeline(*filters: str, **options: Any) -> tuple[Pipeline, ServerCollector]:
    pipeline = Pipeline(*filters, metrics_port=0, **options)
    return pipeline, pipeline.call(lambda: ServerCollector(pipeline.server, str))


def client_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a frame of a client, masked with a key that changes nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def text_frame(letters: str, size: int) -> bytes:
    return client_frame(0x1, (letters + "x" * size).encode())


PING_FRAME = client_frame(0x9, b"?")
letters = st.lists(st.sampled_from(LETTERS), min_size=PLACES, max_size=PLACES).map("".join)
frames = st.builds(text_frame, letters, st.sampled_from([0, 0, 3000]))
bursts = st.lists(frames | st.just(PING_FRAME), min_size=1, max_size=8).map(b"".join)
KINDS = ["send"] * 10 + ["connect"] * 3 + ["stop_reading"] * 2
KINDS += ["go_on_reading", "wait", "wait", "put", "close", "vanish"]
events = st.tuples(st.sampled_from(KINDS), st.integers(0, 4), bursts)
PATHS = ("/", "/", "/", "/?reject", "/?fail")
SECONDS = (0.3, 0.3, 0.3, 1.0, 60.0)
CODES = (1000, 1001, 1002, 3000, 4321)


class Play:
    """A pipeline of `chaos`, and the clients that do what events say."""

    def __init__(self, filters: list[str], options: dict[str, Any]) -> None:
        self.pipeline, self.collector = metered_pipeline(
            *filters, max_queue_bytes=4096, ping_interval=7, **options
        )
        self.opened: list[Client] = []
        self.all_read = True
        for _ in range(3):
            self.do("connect", 0, b"")

    def do(self, kind: str, number: int, burst: bytes) -> None:
        clients = [client for client in self.opened if client.is_open]
        if kind == "connect":
            if len(clients) < 5:
                with suppress(Refused):
                    self.opened.append(self.pipeline.connect(PATHS[number]))
        elif kind == "put":
            self.pipeline.put("f" if number == 0 else "b")
        elif kind == "wait":
            self.pipeline.advance(SECONDS[number])
        elif clients:
            client = clients[number % len(clients)]
            if kind == "send":
                client.send_raw(burst)
            elif kind == "close":
                client.close(CODES[number])
            else:
                self.all_read = self.all_read and kind != "stop_reading"
                getattr(client, kind)()

    def check(self) -> Figures:
        """Return the figures, which add up, and fit what the clients see."""
        figures = scrape(self.collector)
        assert imbalances(figures) == {}
        assert all(amount >= 0 for amount in figures.values())
        assert value(figures, "connections_total") == len(self.opened)
        if self.all_read:
            arrived = sum(len(client.received) for client in self.opened)
            assert value(figures, "deliveries_total") == arrived
        return figures


@given(
    st.sampled_from([[SYNC], [SYNC, ASYNC], [ASYNC], [ASYNC, SYNC]]),
    st.fixed_dictionaries(
        {
            "slow_client": st.sampled_from(["drop_oldest", "drop_newest", "close"]),
            "rate": st.sampled_from([0, 0, 2]),
        }
    ),
    st.lists(events, min_size=15, max_size=40),
)
@settings(max_examples=40)
def test_the_ledgers_balance(
    filters: list[str], options: dict[str, Any], events: list[tuple[str, int, bytes]]
) -> None:
    """Whatever filters and clients do, nothing is lost without a reason, and nothing made up.

    Filters pass, change, drop, fail, exit, wait, send and close; clients come, are refused, send,
    stop reading, leave and vanish; at last the server stops.
    """
    play = Play(filters, options)
    try:
        for event in events:
            play.do(*event)
            play.check()
    finally:
        play.pipeline.close()
    figures = play.check()
    assert value(figures, "connections") == value(figures, "backlog_messages") == 0
    assert value(figures, "deliveries_waiting") == 0


@pytest.mark.parametrize(
    ("change", "ledger"),
    [
        ("users.offered", "deliveries"),
        ("counters.delivered", "deliveries"),
        ("counters.dropped_slow", "deliveries"),
        ("counters.connections", "connections"),
        ("counters.received", "messages"),
        ("counters.given_up", "messages"),
        ("queue._accepted", "queue"),
        ("message_chain.passed", "chain message"),
        ("consumer_chain.failed", "chain consumer"),
    ],
)
def test_a_ledger_that_does_not_balance_says_so(change: str, ledger: str) -> None:
    """One that is lost, or counted twice, shows in the ledger that it belongs to."""
    pipeline, collector = metered_pipeline(SYNC)
    with pipeline:
        pipeline.connect().send("bs")
        assert imbalances(scrape(collector)) == {}
        place, _, name = change.rpartition(".")
        owner = getattr(pipeline.server, place) if place else pipeline.server
        setattr(owner, name, getattr(owner, name) + 1)
        assert ledger in imbalances(scrape(collector))


def test_what_a_filter_lets_vanish_shows() -> None:
    """A message that one filter has passed on must have reached the next one."""
    pipeline, collector = metered_pipeline(SYNC)
    with pipeline:
        pipeline.connect().send("pp")
        pipeline.server.message_chain.meters[1].runs -= 1  # type: ignore[attr-defined]
        assert imbalances(scrape(collector)) == {"filters message": 2}


# What single figures say


def test_what_one_conversation_leaves() -> None:
    """Who sent what to whom, and what became of it."""
    pipeline, collector = metered_pipeline(
        SYNC, "filtered_websocket.filters.broadcast_messages", slow_client="drop_newest"
    )
    with pipeline:
        alice, bob = pipeline.connect(), pipeline.connect()
        for text in ("pppp", "pp--", "d", "f", "q"):
            alice.send(text)
        with suppress(Refused):
            pipeline.connect("/?reject")
        bob.close(4001)
        figures = scrape(collector)
    assert value(figures, "connections") == 1
    assert value(figures, "connections_total") == 2
    assert value(figures, "sockets") == 1
    refused = value(figures, "handshakes_refused_total", status="403", reason="filter_rejected")
    assert refused == 1
    assert value(figures, "closes_total", code="4xxx", by="client") == 1
    assert value(figures, "messages_received_total") == 5
    assert value(figures, "received_bytes_total") == 11
    ended = {
        outcome: value(figures, "chain_ended_total", chain="message", outcome=outcome)
        for outcome in ("passed", "dropped", "failed")
    }
    assert ended == {"passed": 3, "dropped": 1, "failed": 1}
    first = {"chain": "message", "position": "1", "filter": f"{SYNC}.First"}
    assert value(figures, "filter_runs_total", **first) == 5
    assert value(figures, "filter_errors_total", **first) == 1
    assert value(figures, "filter_drops_total", **first) == 1
    assert value(figures, "filter_seconds_count", **first) == 5
    assert value(figures, "filter_info", kind="sync", **first) == 1
    assert value(figures, "queue_items_total") == 1
    # Bob got "early", three messages and an item; Alice "early", the item and that Bob has gone.
    assert value(figures, "deliveries_total") == 8
    arrived = [*alice.received, *bob.received]
    assert value(figures, "delivered_bytes_total") == sum(2 + len(text) for text in arrived)


@pytest.mark.parametrize(
    ("options", "headers", "status", "reason"),
    [
        ({}, {"Origin": "https://other.example"}, 403, "origin"),
        ({"max_connections_per_ip": 1}, {}, 429, "per_address"),
        ({"max_connections": 1}, {}, 503, "too_many"),
        ({}, {"Sec-WebSocket-Version": "8"}, 426, "version"),
        ({}, {"X-Long": "y" * 9000}, 431, "header_size"),
        ({}, {"Connection": "close"}, 400, "bad_request"),
        ({"handshake_timeout": 0.5}, {}, 408, "filter_timeout"),
        ({}, {"Upgrade": "h2c"}, 426, "no_upgrade"),
    ],
)
def test_why_a_handshake_was_refused(
    options: dict[str, Any], headers: dict[str, str], status: int, reason: str
) -> None:
    """Each is counted by its status and its reason; no connection is left of it."""
    filters = [ASYNC] if reason == "filter_timeout" else []
    pipeline, collector = metered_pipeline(*filters, **options)
    with pipeline:
        if any("max" in name for name in options):
            pipeline.connect()
        before = value(scrape(collector), "connections_total")
        with pytest.raises(Refused):
            pipeline.connect(headers=headers)
        figures = scrape(collector)
    refused = value(figures, "handshakes_refused_total", status=str(status), reason=reason)
    assert (refused, value(figures, "connections_total") - before) == (1, 0)


def test_what_waits_for_slow_clients() -> None:
    """Messages and bytes; what their queue does not take is dropped for a reason."""
    pipeline, collector = metered_pipeline(SYNC, max_queue_bytes=5000, slow_client="drop_newest")
    with pipeline:
        client = pipeline.connect()
        client.stop_reading()
        before = scrape(collector)
        for _ in range(3):
            client.send("l")
        figures = scrape(collector)
        assert value(figures, "deliveries_waiting") == 2
        assert value(figures, "deliveries_dropped_total", reason="slow_client") == 1
        assert value(figures, "unsent_bytes") > 4000
        client.go_on_reading()
        after = scrape(collector)
        assert value(after, "deliveries_waiting") == value(after, "unsent_bytes") == 0
        assert value(after, "deliveries_total") == value(before, "deliveries_total") + 2


def test_which_filter_a_message_waits_for() -> None:
    """A filter that has not ended has a run under way; only async ones can, and are shown."""
    pipeline, collector = metered_pipeline(ASYNC, SYNC)
    with pipeline:
        client = pipeline.connect()
        pipeline.advance(1)
        client.send("pppp")
        waiting = running(scrape(collector))
        pipeline.advance(10)
        ended = running(scrape(collector))
    assert {name for name, count in waiting.items() if count} == {f"{ASYNC}.Third"}
    assert waiting.keys() == ended.keys() and not any(ended.values())
    assert all(name.startswith(ASYNC) for name in ended)


def running(figures: Figures) -> dict[str, float]:
    """Return how many runs of each async filter are under way."""
    return {
        dict(labels)["filter"]: count
        for (name, labels), count in figures.items()
        if name == "fws_filter_running"
    }


def test_a_server_that_is_not_metered_has_no_figures_of_filters() -> None:
    """Chains are not counted there, and no ledger claims anything of them."""
    with Pipeline(SYNC) as pipeline:
        collector = pipeline.call(lambda: ServerCollector(pipeline.server, str))
        pipeline.connect().send("hello")
        names = {name for name, _ in scrape(collector)}
    assert "fws_connections" in names and "fws_filter_runs_total" not in names


# Figures of storage objects


class Measuring(StorageObject):
    """A storage with figures of its own."""

    def __init__(self, figures: Any) -> None:
        super().__init__(Namespace())
        self.figures = figures

    def measures(self) -> dict[str, float]:
        if isinstance(self.figures, Exception):
            raise self.figures
        return self.figures  # type: ignore[no-any-return]


async def scraped_with(storage: object, times: int = 1) -> Figures:
    factory = FilteredWebSocketFactory(storage_object=storage)
    collector = ServerCollector(factory, str)
    for _ in range(times):
        figures = scrape(collector)
    await factory.close(0)
    return figures


async def test_figures_of_a_storage_object() -> None:
    """Counters by their name, gauges else; `True` is 1."""
    storage = Measuring({"shelf_books": 3, "shelf_lent_total": 7, "shelf_open": True})
    figures = await scraped_with(storage)
    names = ("shelf_books", "shelf_lent_total", "shelf_open")
    assert [value(figures, name) for name in names] == [3, 7, 1]


@pytest.mark.parametrize(
    ("measures", "complaint"),
    [
        (RuntimeError("no shelf"), "RuntimeError: no shelf"),
        ({"Shelf": 1}, "'Shelf' is no name"),
        ({"a b": 1}, "'a b' is no name"),
        ({7: 1}, "7 is no name"),
        ({"connections": 1}, "'connections' is the name of another metric"),
        ({"shelf": "many"}, "could not convert"),
        (None, "TypeError"),
    ],
)
async def test_a_storage_object_that_measures_wrong_is_told_once(
    measures: Any, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The other figures are there; the log names what is wrong."""
    figures = await scraped_with(Measuring(measures), times=3)
    assert value(figures, "connections") == 0
    (record,) = caplog.records
    assert complaint in record.getMessage()


async def test_a_storage_object_without_figures() -> None:
    """One of 0.4.1 need not know of metrics."""

    class Old:
        def get(self, key: str) -> None:
            return None

    assert value(await scraped_with(Old()), "connections") == 0
