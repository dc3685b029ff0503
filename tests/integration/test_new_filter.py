"""What `fws_server --new_filter` writes, used as its output says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from websockets.sync.client import connect

from ..process import ServerProcess

PYTEST = ("pytest", "-q", "-p", "filtered_websocket", "-p", "no:cacheprovider")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_the_filter_and_its_test_run_at_once(tmp_path: Path) -> None:
    """Written in an empty folder, the one works in a server and the other passes."""
    written = run(tmp_path, "filtered_websocket", "--new_filter", "my_filter")
    assert (written.returncode, written.stderr) == (0, "")
    tested = run(tmp_path, *PYTEST, "test_my_filter.py")
    assert "1 passed" in tested.stdout, tested.stdout
    server = ServerProcess(tmp_path, "-f", "my_filter", "broadcast_messages")
    try:
        with connect(server.url) as alice, connect(server.url) as bob:
            alice.send("hello")
            assert bob.recv(timeout=10) == "HELLO"
    finally:
        server.kill()
