"""Accepting connections, also where the system gives no more descriptors."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import resource
import socket
import weakref
from contextlib import ExitStack

import pytest

from filtered_websocket import listener
from filtered_websocket.counters import Counters
from filtered_websocket.listener import Listener
from filtered_websocket.server import FilteredWebSocketFactory

from .conftest import idle


class Scene:
    """A listener on one socket, which keeps what is accepted; `error` is what accept raises."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.accepted: list[socket.socket] = []
        self.arrived = asyncio.Semaphore(0)
        self.error: OSError | None = None
        self.tries = 0
        self._socket = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._socket.setblocking(False)
        self.counters = Counters()
        spawn = FilteredWebSocketFactory().spawn
        self.listener = Listener([self], self.connect, spawn, counters=self.counters)  # type: ignore[list-item]
        self.stack.callback(self.listener.close)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def call(self) -> socket.socket:
        """Return a client that waits to be accepted."""
        return self.stack.enter_context(socket.create_connection(self._socket.getsockname()))

    async def connect(self, accepted: socket.socket) -> None:
        self.accepted.append(self.stack.enter_context(accepted))
        self.arrived.release()

    # What a listener needs of a socket

    @property
    def family(self) -> socket.AddressFamily:
        return self._socket.family

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.error is not None:
            raise self.error
        return self._socket.accept()


async def test_what_is_accepted_is_ready_for_the_event_loop() -> None:
    """It does not block, and its small packets leave at once."""
    with Scene() as scene:
        scene.call()
        await scene.arrived.acquire()
        (accepted,) = scene.accepted
        assert not accepted.getblocking()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_crowd_is_accepted_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn of the event loop takes some, so that clients that are there get their turn."""
    monkeypatch.setattr(listener, "ACCEPTS", 2)
    with Scene() as scene:
        for _ in range(5):
            scene.call()
        scene.listener._accept(scene)  # type: ignore[arg-type]
        assert scene.tries == 2
        for _ in range(5):
            await scene.arrived.acquire()


async def test_a_connection_that_fails_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """How peers break their connections, in a TLS handshake say, is no news."""

    async def fail(accepted: socket.socket) -> None:
        scene.accepted.append(accepted)
        raise ConnectionResetError

    with Scene() as scene:
        scene.listener._connect = fail
        client = scene.call()
        while not scene.accepted:
            await idle()
        await idle()
        assert client.recv(1) == b""
        assert (scene.counters.connecting, scene.counters.abandoned) == (0, 1)
    assert caplog.records == []


async def test_a_connection_that_fails_leaves_nothing_behind() -> None:
    """Its error would keep the transport, and the transport the error, until the collector runs."""

    class Transport:
        error: ConnectionResetError

    transports: list[weakref.ref[Transport]] = []

    async def fail(accepted: socket.socket) -> None:
        transport = Transport()
        transports.append(weakref.ref(transport))
        transport.error = ConnectionResetError()
        raise transport.error

    gc.disable()
    try:
        with Scene() as scene:
            scene.listener._connect = fail
            scene.call()
            while not transports:
                await idle()
            await idle()
            assert transports[0]() is None
    finally:
        gc.enable()


async def test_closing_gives_up_what_is_not_made_yet() -> None:
    """Neither the socket nor a half-made connection is served after it."""
    cancelled = asyncio.Event()

    async def hang(accepted: socket.socket) -> None:
        scene.arrived.release()
        with accepted:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    with Scene() as scene:
        scene.listener._connect = hang
        client = scene.call()
        await scene.arrived.acquire()
        assert scene.counters.connecting == 1
        scene.listener.close()
        await cancelled.wait()
        assert client.recv(1) == b""
        scene.call()
        await idle()
        assert scene.arrived.locked()


@pytest.mark.parametrize("take_rest", [False, True])
async def test_stopping_takes_the_rest_or_leaves_it(take_rest: bool) -> None:
    """What waits in the kernel is accepted, unless it is for somebody else; nobody comes after."""
    with Scene() as scene:
        waiting = 3 * listener.ACCEPTS
        for _ in range(waiting):
            scene.call()
        scene.listener.stop(take_rest=take_rest)
        scene.call()
        assert scene.listener.is_connecting == take_rest
        await idle()
        assert len(scene.accepted) == (waiting if take_rest else 0)
        assert not scene.listener.is_connecting


LIMIT, _ = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, f"{LIMIT} files are open, the limit of a process; raise it with ulimit -n"),
        (
            errno.ENFILE,
            "the limit of open files of the machine is reached; raise fs.file-max with sysctl",
        ),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
    ],
)
async def test_running_out_is_told_once_and_waited_out(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server tries again after a pause, and whoever waited in the kernel is accepted."""
    monkeypatch.setattr(listener, "PAUSE", 0.01)
    with Scene() as scene:
        scene.error = OSError(number, os.strerror(number))
        scene.call()
        while scene.tries < 3:
            await idle()
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (logging.ERROR, f"cannot accept more connections for now: {advice}")
        ]
        scene.error = None
        await scene.arrived.acquire()
        monkeypatch.setattr(listener, "EPISODE", 0.0)
        scene.error = OSError(number, os.strerror(number))
        scene.call()
        while len(caplog.records) < 2:
            await idle()


async def test_closing_while_waiting() -> None:
    """A server waits without trying, and one that stops then does not start to accept again."""
    with Scene() as scene:
        scene.error = OSError(errno.EMFILE, "Too many open files")
        scene.call()
        while not scene.tries:
            await idle()
        await idle()
        assert scene.tries == 1
        scene.listener.close()
        assert scene.listener._pause is not None
        assert scene.listener._pause.cancelled()


@pytest.mark.parametrize(
    "error", [BlockingIOError(), InterruptedError(), ConnectionAbortedError()], ids=repr
)
async def test_what_is_gone_before_it_is_accepted(
    error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody to accept is no news, and no reason to wait."""
    with Scene() as scene:
        scene.error = error
        scene.call()
        while not scene.tries:
            await idle()
        scene.error = None
        await scene.arrived.acquire()
    assert caplog.records == []
