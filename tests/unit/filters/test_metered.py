"""Chains that count and time what their filters do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filtered_websocket.filters import base
from filtered_websocket.filters.base import (
    Chain,
    DropMessage,
    FilterBase,
    RejectHandshake,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.filters.metered import MeteredChain, meter_chains
from filtered_websocket.typing import Message

from ..conftest import add

CHAINS = (WebSocketMessageFilter, WebSocketDisconnectFilter, WebSocketHandshakeFilter)


def passes(connection: Any, data: Any) -> None:
    pass


def changes(connection: Any, data: Any) -> str:
    return f"{data}+"


def drops(connection: Any, data: Any) -> None:
    raise DropMessage


def fails(connection: Any, data: Any) -> None:
    raise ValueError("no")


def exits(connection: Any, data: Any) -> None:
    raise SystemExit


def rejects(connection: Any, data: Any) -> None:
    raise RejectHandshake(403)


BEHAVIOURS = (passes, changes, drops, fails, exits, rejects)


def waits(body: Any) -> Any:
    async def waiting(connection: Any, data: Any) -> Any:
        await asyncio.sleep(0)
        return body(connection, data)

    return waiting


def outcome(chain: Chain) -> Any:
    """Run a chain; return what it returns, or the type of what it raises."""
    data = Message(b"x")
    try:
        result = chain.run(None, data)
        return asyncio.run(result) if chain.is_async else result
    except RejectHandshake as error:
        return type(error)


@given(
    st.sampled_from(CHAINS),
    st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.booleans()), max_size=4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_it_does_what_a_chain_does(
    empty_chains: None, base: type[FilterBase], filters: list[tuple[Any, bool]]
) -> None:
    """Whatever the filters do, sync or async; each run has one outcome, each filter too."""
    base._filters.clear()
    for body, is_async in filters:
        add(base, waits(body) if is_async else body)
    metered = MeteredChain(base)
    assert outcome(metered) == outcome(Chain(base))
    ended = (metered.passed, metered.dropped, metered.failed, metered.rejected, metered.cancelled)
    assert (metered.runs, metered.running, sum(ended)) == (1, 0, 1)
    for meter in metered.meters:
        assert (
            meter.times.count
            == meter.runs
            == (meter.passed + meter.drops + meter.errors + meter.rejections)
        )


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("body", "chain_counts", "filter_counts"),
    [
        (passes, "passed", "passed"),
        (changes, "passed", "passed"),
        (drops, "dropped", "drops"),
        (fails, "failed", "errors"),
    ],
)
def test_how_a_run_ends_is_counted(
    empty_chains: None, is_async: bool, body: Any, chain_counts: str, filter_counts: str
) -> None:
    """Once for the chain and once for the filter; the filter after it runs or does not."""
    add(WebSocketMessageFilter, waits(body) if is_async else body)
    add(WebSocketMessageFilter, passes)
    chain = MeteredChain(WebSocketMessageFilter)
    outcome(chain)
    first, second = chain.meters
    assert getattr(chain, chain_counts) == getattr(first, filter_counts) == 1
    assert (first.is_async, second.is_async) == (is_async, False)
    assert second.runs == second.passed == (chain_counts == "passed")
    assert first.times.sum > 0


def test_disconnect_filters_run_on_after_an_error(empty_chains: None) -> None:
    """There the error is the filter's, and the chain has passed."""
    add(WebSocketDisconnectFilter, fails)
    add(WebSocketDisconnectFilter, passes)
    chain = MeteredChain(WebSocketDisconnectFilter)
    outcome(chain)
    assert [meter.errors for meter in chain.meters] == [1, 0]
    assert (chain.passed, chain.failed, chain.meters[1].passed) == (1, 0, 1)


async def test_a_cancelled_run_is_counted_as_that(
    empty_chains: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits it is running; when the server ends it, it is cancelled."""
    monkeypatch.setattr(base, "is_being_cancelled", lambda: True)

    async def never(connection: Any, data: Any) -> None:
        await asyncio.Event().wait()

    add(WebSocketMessageFilter, never)
    chain = MeteredChain(WebSocketMessageFilter)
    task = asyncio.get_running_loop().create_task(chain.run(None, Message(b"x")))
    await asyncio.sleep(0)
    assert (chain.runs, chain.running, chain.meters[0].runs) == (1, 1, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (chain.running, chain.cancelled, chain.meters[0].cancelled) == (0, 1, 1)


def test_all_chains_are_metered_from_then_on(empty_chains: None) -> None:
    """Those of the server and those of filters."""

    class Own(FilterBase):
        pass

    add(Own, passes)
    meter_chains()
    assert all(isinstance(chain.chain(), MeteredChain) for chain in FilterBase.__subclasses__())
    Own.run(None, b"x")
    own = Own.chain()
    assert isinstance(own, MeteredChain) and own.passed == 1
