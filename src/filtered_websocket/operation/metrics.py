"""The figures of a server for Prometheus, read when somebody asks.

Everything here is counted elsewhere, as plain integers; a scrape reads them between two events, so
that all are of the same moment. That makes ledgers possible: what went in must be what came out,
each side counted in another place. `docs/metrics.md` says what each figure means.

What belongs here: names, labels, and the ledgers. What does not: counting (`counters`,
`filters.metered`), and HTTP (`operation.pages`).
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from .. import __version__
from ..counters import CODES_OF_THEIR_OWN, Histogram
from ..filters.base import FilterBase
from ..filters.metered import FilterMeter, MeteredChain
from ..server import FilteredWebSocketFactory

__all__ = ["ServerCollector", "make_registry"]

logger = logging.getLogger(__name__)

LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FILTER_LABELS = ("chain", "position", "filter")

_measure_name = re.compile(r"[a-z][a-z0-9_]*").fullmatch


def make_registry(collector: ServerCollector) -> CollectorRegistry:
    """Return all that a scrape shows: the server's figures, the process', the interpreter's."""
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class ServerCollector(Collector):
    """Show the figures of one server; `loop_lag` wants to be told of each beat's lag."""

    def __init__(self, factory: FilteredWebSocketFactory, not_ready: Callable[[], str]) -> None:
        """Made in the event loop; `not_ready` says why the server is not ready, or ""."""
        self.loop_lag = Histogram(LAGS)
        self._factory = factory
        self._not_ready = not_ready
        self._event_loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        self._told: set[str] = set()  # what is wrong with the measures of the storage

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; called in the event loop, for each scrape."""
        figures = _Figures(self._factory)
        ours = [
            *self._of_server(figures),
            *self._of_connections(figures),
            *self._of_messages(figures),
            *_of_chains(figures.chains),
            _ledgers(figures),
        ]
        yield from ours
        yield from self._of_storage({metric.name for metric in ours})

    def _of_server(self, figures: _Figures) -> Iterator[Metric]:
        build = _gauge("build_info", "What runs; always 1.", "version", "python", "event_loop")
        build.add_metric([__version__, platform.python_version(), self._event_loop], 1)
        yield build
        yield _gauge("ready", "1 when new clients are welcome.").of(not self._not_ready())
        yield _histogram("loop_lag_seconds", "How late the event loop is.").of(self.loop_lag)
        yield _gauge("queue_items", "Items that wait for the consumer chain.").of(figures.queued)
        yield _counter("queue_items", "Items put on the queue.").of(figures.put)
        yield _counter("queue_refused", "Items that found the queue full.").of(figures.full)

    def _of_connections(self, figures: _Figures) -> Iterator[Metric]:
        counters, limits = self._factory.counters, self._factory.limits
        yield _gauge("connections", "Open connections.").of(figures.connections)
        yield _counter("connections", "Connections opened.").of(counters.connections)
        limit = min(filter(None, (limits.connections, limits.sockets)), default=None)
        if limit is not None:
            yield _gauge("connections_limit", "How many connections there may be.").of(limit)
        sockets = counters.sockets + counters.connecting
        yield _gauge("sockets", "Accepted sockets, those in a handshake included.").of(sockets)
        refused = _counter("handshakes_refused", "Handshakes refused.", "status", "reason")
        for (status, reason), count in counters.refusals.items():
            refused.add_metric([str(status), reason], count)
        yield refused
        yield _counter("handshakes_abandoned", "Handshakes that the client left or that broke.").of(
            counters.abandoned
        )
        yield _counter("http_requests", "Requests that asked for no WebSocket.").of(counters.pages)
        closes = _counter("closes", "Connections closed, 1006 for lost ones.", "code", "by")
        for (code, by), count in counters.closes.items():
            is_own = by == "client" and code >= CODES_OF_THEIR_OWN
            closes.add_metric([f"{code // 1000}xxx" if is_own else str(code), by], count)
        yield closes
        yield _histogram("ping_seconds", "How long clients took to answer a ping.").of(
            self._factory.keepalive.round_trips
        )

    def _of_messages(self, figures: _Figures) -> Iterator[Metric]:
        factory, counters = self._factory, self._factory.counters
        yield _counter("messages_received", "Messages from clients.").of(counters.received)
        yield _counter("received_bytes", "Their bytes, without frames.").of(counters.received_bytes)
        yield _gauge("backlog_messages", "Messages that wait for async filters or their rate.").of(
            counters.backlog
        )
        yield _counter("backlog_dropped", "Of these, what was left at the end of a stop.").of(
            counters.given_up
        )
        yield _counter("rate_delays", "Messages that came faster than --rate.").of(
            counters.rate_delays
        )
        yield _counter("deliveries_offered", "Messages to clients, once for each receiver.").of(
            factory.users.offered
        )
        yield _counter("deliveries", "Of these, given to the sockets.").of(counters.delivered)
        yield _counter("delivered_bytes", "Their bytes, as frames.").of(counters.delivered_bytes)
        dropped = _counter("deliveries_dropped", "Of these, dropped.", "reason")
        dropped.add_metric(["slow_client"], counters.dropped_slow)
        dropped.add_metric(["closed"], counters.dropped_closed)
        yield dropped
        yield _gauge("deliveries_waiting", "Of these, still waiting.").of(figures.waiting)
        yield _gauge("unsent_bytes", "Bytes that wait, here and in the transports.").of(
            figures.unsent_bytes
        )

    def _of_storage(self, taken: set[str]) -> Iterator[Metric]:
        measures = getattr(self._factory.storage_object, "measures", None)
        if measures is None:  # a class of 0.4.1 may have no base class
            return
        try:
            for name, value in dict(measures()).items():
                metric = _measure(name, value)
                if metric.name in taken:
                    raise ValueError(f"{name!r} is the name of another metric")
                taken.add(metric.name)
                yield metric
        except Exception as error:  # an author's
            text = f"{type(error).__name__}: {error}"
            if text not in self._told and len(self._told) < 10:
                self._told.add(text)
                logger.error("measures of the storage object: %s", text)


class _Figures:
    """What has to be computed for a scrape, once."""

    def __init__(self, factory: FilteredWebSocketFactory) -> None:
        self.factory = factory
        self.connections = len(factory.users)
        self.put, self.queued, self.full = factory.queue.count()
        self.chains = dict(_metered_chains(factory))
        self.waiting = factory.users.waiting()
        self.unsent_bytes = 0
        for connection in dict.values(factory.users):  # not its own `values`, which copies
            self.waiting += connection.waiting_messages
            self.unsent_bytes += connection.unsent_bytes


def _metered_chains(factory: FilteredWebSocketFactory) -> Iterator[tuple[str, MeteredChain]]:
    """Yield the chains that count, with their labels: six of the server, and those of filters."""
    of_server = {
        "data": factory.data_chain,
        "handshake": factory.handshake_chain,
        "connect": factory.connect_chain,
        "message": factory.message_chain,
        "disconnect": factory.disconnect_chain,
        "consumer": factory.consumer_chain,
    }
    for name, chain in of_server.items():
        if isinstance(chain, MeteredChain):
            yield name, chain
    names = set(of_server)
    for base in FilterBase.__subclasses__():
        own = base._frozen
        if isinstance(own, MeteredChain) and own not in of_server.values():
            name = base.__name__
            if name in names:
                name = f"{base.__module__}.{base.__qualname__}"
            if name not in names:
                names.add(name)
                yield name, own


def _of_chains(chains: Mapping[str, MeteredChain]) -> Iterable[Metric]:
    began = _counter("chain_runs", "Runs of a chain that began.", "chain")
    ended = _counter("chain_ended", "Runs of a chain, by how they ended.", "chain", "outcome")
    running = _gauge("chain_running", "Runs of a chain under way.", "chain")
    info = _gauge("filter_info", "The filters; always 1.", *FILTER_LABELS, "kind")
    runs = _counter("filter_runs", "Runs of a filter that began.", *FILTER_LABELS)
    busy = _gauge("filter_running", "Of an async one, those under way.", *FILTER_LABELS)
    errors = _counter("filter_errors", "Of these, those that failed.", *FILTER_LABELS)
    drops = _counter("filter_drops", "Of these, those that dropped the message.", *FILTER_LABELS)
    times = _histogram("filter_seconds", "How long they took, waiting included.", *FILTER_LABELS)
    for name, chain in chains.items():
        began.add_metric([name], chain.runs)
        running.add_metric([name], chain.running)
        for outcome in ("passed", "dropped", "failed", "rejected", "cancelled"):
            ended.add_metric([name, outcome], getattr(chain, outcome))
        for position, meter in enumerate(chain.meters, 1):
            labels = [name, str(position), meter.name]
            info.add_metric([*labels, "async" if meter.is_async else "sync"], 1)
            runs.add_metric(labels, meter.runs)
            errors.add_metric(labels, meter.errors)
            drops.add_metric(labels, meter.drops)
            if meter.is_async:
                busy.add_metric(labels, meter.running)
            times.add(labels, meter.times)
    return began, ended, running, info, runs, busy, errors, drops, times


# Ledgers


def _ledgers(figures: _Figures) -> Metric:
    """Return by how much what went in is more than what came out and what is inside."""
    metric = _gauge("ledger_imbalance", "In, less out, less inside: 0.", "ledger")
    factory, counters = figures.factory, figures.factory.counters
    dropped = counters.dropped_slow + counters.dropped_closed
    delivered = counters.delivered + dropped + figures.waiting
    metric.add_metric(["deliveries"], factory.users.offered - delivered)
    ended = figures.connections + sum(counters.closes.values())
    metric.add_metric(["connections"], counters.connections - ended)
    chains = figures.chains
    if "message" in chains:
        handled = chains["message"].runs + counters.backlog + counters.given_up
        metric.add_metric(["messages"], counters.received - handled)
    if "consumer" in chains:
        metric.add_metric(["queue"], figures.put - figures.queued - chains["consumer"].runs)
    for name, chain in chains.items():
        metric.add_metric([f"chain {name}"], _imbalance_of_chain(chain))
        metric.add_metric([f"filters {name}"], _imbalance_of_filters(chain))
    return metric


def _imbalance_of_chain(chain: MeteredChain) -> int:
    ended = chain.passed + chain.dropped + chain.failed + chain.rejected + chain.cancelled
    return chain.runs - ended - chain.running


def _imbalance_of_filters(chain: MeteredChain) -> int:
    """Return how much is lost, or made up, between the filters, or by a filter that runs."""
    arrives, under_way, imbalance = chain.runs, 0, 0
    for meter in chain.meters:
        imbalance += abs(arrives - meter.runs)
        under_way += meter.running
        arrives = _passed_on(meter, chain)
    return imbalance + abs(arrives - chain.passed) + abs(under_way - chain.running)


def _passed_on(meter: FilterMeter, chain: MeteredChain) -> int:
    return meter.passed + (meter.errors if chain.survives_errors else 0)


# Families of metrics


class _Gauge(GaugeMetricFamily):
    def of(self, value: float) -> _Gauge:
        self.add_metric([], value)
        return self


class _Counter(CounterMetricFamily):
    def of(self, value: float) -> _Counter:
        self.add_metric([], value)
        return self


class _Histogram(HistogramMetricFamily):
    def of(self, histogram: Histogram) -> _Histogram:
        self.add([], histogram)
        return self

    def add(self, labels: list[str], histogram: Histogram) -> None:
        bounds = [*map(str, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        self.add_metric(labels, buckets, histogram.sum)


def _gauge(name: str, text: str, *labels: str) -> _Gauge:
    return _Gauge(f"fws_{name}", text, labels=labels)


def _counter(name: str, text: str, *labels: str) -> _Counter:
    return _Counter(f"fws_{name}", text, labels=labels)


def _histogram(name: str, text: str, *labels: str) -> _Histogram:
    return _Histogram(f"fws_{name}", text, labels=labels)


def _measure(name: Any, value: Any) -> Metric:
    """Return a figure of the storage object as a metric; raise what is wrong with it."""
    if not isinstance(name, str) or not _measure_name(name):
        raise ValueError(f"{name!r} is no name: lower-case letters, digits and _")
    value = float(value)
    if name.endswith("_total"):
        return _counter(name.removesuffix("_total"), "Counted by the storage object.").of(value)
    return _gauge(name, "Measured by the storage object.").of(value)
