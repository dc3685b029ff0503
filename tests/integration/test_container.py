"""The image without a container engine: its variables, its health check, its first process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ..process import wait_until
from .redis_server import free_port
from .wire import Peer, Start

DOCKERFILE = (Path(__file__).parent.parent.parent / "Dockerfile").read_text().replace("\\\n", " ")


def variables(port: int) -> dict[str, str]:
    """Return the options that the image sets, with another port."""
    found = dict(re.findall(r"(FWS_\w+)=(\S+)", DOCKERFILE))
    assert found == {"FWS_HOST": "*", "FWS_PORT": "9000"}
    return found | {"FWS_PORT": str(port)}


def check(port: int) -> int:
    """Return what the health check of the image says: 0 is healthy."""
    found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "python"
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | variables(port), stderr=subprocess.DEVNULL
    ).returncode


def test_the_health_check_tells_a_server_that_answers(start_server: Start) -> None:
    """One that was started with the variables of the image, on all addresses of the container."""
    port = free_port()
    assert check(port) == 1
    server = start_server("-f", port=None, environ=variables(port))
    with Peer(server.port) as peer:
        peer.open()
        assert check(port) == 0
    assert f"open to: 0.0.0.0:{port}" in server.stderr
    assert server.stop() == 0


FIRST = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
MAY_BE_FIRST = subprocess.run([*FIRST, "true"], stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.skipif(not MAY_BE_FIRST, reason="no namespace of processes is allowed here")
def test_a_second_signal_ends_the_first_process_too(start_server: Start) -> None:
    """Signals with their default action do not reach it."""
    launch = f"import os, sys; os.execvp('unshare', [*{FIRST}, sys.executable, *sys.argv[1:]])"
    module = ("-m", "filtered_websocket")
    server = start_server(
        *(*module, "-p", "0", "-f", "--drain_delay", "600"), port=None, command=("-c", launch)
    )
    assert server.port
    pid = first_child(server.process.pid)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: "stopping" in server.stderr, "the drain")

    def has_ended() -> bool:
        # Again and again: one that comes within milliseconds counts as the first.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return server.process.poll() is not None

    wait_until(has_ended, "the end")
    assert server.wait() == 128 + signal.SIGTERM


def first_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
