"""The limit of open files: the server keeps its clients, and accepts again when it can."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..process import wait_until
from .test_event_loops import LOOPS
from .wire import PING, PONG, Frame, Peer, Start, frame, local_tls

LIMIT = 40


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])
def test_the_limit_is_told_once_and_survived(
    start_server: Start, tmp_path: Path, loop: str, with_tls: bool
) -> None:
    """Clients that are there are served, and those that wait get in when others have left."""
    options, trust = local_tls(tmp_path) if with_tls else ((), None)
    server = start_server("-f", *options, command=LOOPS[loop])
    with Peer(server.port, tls=trust) as client:
        client.open()
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        with ExitStack() as crowd:
            for _ in range(2 * LIMIT):
                crowd.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            wait_until(lambda: " ERROR " in server.stderr, "the line")
            assert len(os.listdir(f"/proc/{pid}/fd")) == LIMIT
            client.send(frame(PING, b"?"))
            assert client.read_frame() == Frame(PONG, b"?")
        with Peer(server.port, tls=trust) as late:
            late.open()
    assert server.stop() == 0
    (error,) = [line for line in server.stderr.splitlines() if " ERROR " in line]
    assert error.endswith(
        f"cannot accept more connections for now: {LIMIT} files are open, "
        "the limit of a process; raise it with ulimit -n"
    )
    assert "Traceback" not in server.stderr
