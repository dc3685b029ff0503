"""The port for operators."""

from __future__ import annotations

import asyncio
import socket

import pytest

from filtered_websocket.operation.heartbeat import Heartbeat
from filtered_websocket.operation.metrics_port import serving_metrics
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.typing import StartError


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_answers_while_the_block_runs(empty_chains: None) -> None:
    """On loopback, on a free port; who asks is no client; afterwards nobody listens."""
    factory, heartbeat = FilteredWebSocketFactory(metered=True), Heartbeat()
    async with serving_metrics(factory, None, 0, heartbeat, lambda: "starting") as sockets:
        assert {s.getsockname()[0] for s in sockets} <= {"127.0.0.1", "::1"}
        port = sockets[0].getsockname()[1]
        for listener in heartbeat.listeners:
            listener(0.2)
        answer = (await ask(port, "/metrics")).decode()
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert "\nfws_ready 0.0\n" in answer
        assert "\nfws_loop_lag_seconds_sum 0.2\n" in answer
        assert "\nfws_sockets 0.0\n" in answer and "\nfws_http_requests_total 0.0\n" in answer
        assert (await ask(port, "/ready")).endswith(b"\r\n\r\nstarting\n")
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "/health")
    await factory.close(0)


async def test_a_port_that_is_taken_is_named_with_its_option(empty_chains: None) -> None:
    """Whoever reads the error knows which of the two ports is meant."""
    factory = FilteredWebSocketFactory()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match="in use; .* with --metrics_port"):
            async with serving_metrics(factory, "127.0.0.1", port, Heartbeat(), str):
                pass
    with pytest.raises(StartError, match="--metrics_host no.such"):
        async with serving_metrics(factory, "no.such.invalid", 0, Heartbeat(), str):
            pass
    await factory.close(0)
