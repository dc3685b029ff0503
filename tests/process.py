"""The real `fws_server` as a process, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

DEADLINE = 15.0  # seconds; a test that waits this long has failed
PAUSE = 0.005


WITH_CLOSE_TIMEOUT = """
import sys
from filtered_websocket.server_protocol.limits import Limits

defaults = list(Limits.__init__.__defaults__)
defaults[Limits.__match_args__.index("close_timeout")] = {seconds}
Limits.__init__.__defaults__ = tuple(defaults)

from filtered_websocket.cli import main

sys.exit(main())
"""


def with_close_timeout(seconds: float) -> tuple[str, ...]:
    """Return the command for a server with another `Limits.close_timeout`, which is no option."""
    return ("-c", WITH_CLOSE_TIMEOUT.format(seconds=seconds))


def wait_until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Poll until `condition` holds; fail with `what` when it takes too long."""
    deadline = time.monotonic() + DEADLINE
    waiter = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {DEADLINE} s")
        waiter.wait(PAUSE)


def told(log: str, event: str) -> int:
    """Return how often a log in text form tells of `event`, what it only counts included."""
    lines = [line for line in log.splitlines() if event in line and not line.startswith(" ")]
    more = [re.search(r" \((\d+) more of this in ", line) for line in lines]
    return sum(int(match[1]) if match else 1 for match in more)


class ServerProcess:
    """Run `fws_server` on a free port in `folder`, with its output kept in memory.

    Pass `port=None` for arguments that choose the port themselves, `environ` for more variables,
    `pass_fds` for files that it shall inherit.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        port: int | None = 0,
        environ: Mapping[str, str] | None = None,
        command: tuple[str, ...] = ("-m", "filtered_websocket"),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        ours = ("FWS_", "STORAGE_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "PYTHONUNBUFFERED")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        choice = () if port is None else ("-p", str(port))
        self.process = subprocess.Popen(
            [sys.executable, *command, *choice, *arguments],
            cwd=folder,
            env=clean | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
        )
        self._outputs = {"stdout": bytearray(), "stderr": bytearray()}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._outputs
        ]
        for reader in self._readers:
            reader.start()

    @property
    def stdout(self) -> str:
        return self._outputs["stdout"].decode()

    @property
    def stderr(self) -> str:
        return self._outputs["stderr"].decode()

    @property
    def port(self) -> int:
        """The port that it listens on; waits for the start lines."""
        wait_until(lambda: self._start_line() or self.process.poll() is not None, "the start")
        match = self._start_line()
        assert match is not None, f"fws_server did not start:\n{self.stderr}"
        return int(match[1])

    @property
    def url(self) -> str:
        """Its WebSocket URL; waits for the start lines."""
        return f"ws://localhost:{self.port}/"

    def wait(self) -> int:
        """Wait until it has ended and all its output is here; return the exit code."""
        code = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def stop(self) -> int:
        """Stop it as a service manager does, with SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it for good; harmless when it has ended."""
        self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _start_line(self) -> re.Match[str] | None:
        return re.search(r"fws_server:? +https?://\S+?:(\d+)/", self.stderr)

    def _read(self, name: str) -> None:
        pipe = getattr(self.process, name)
        while chunk := pipe.read1(65536):
            self._outputs[name] += chunk
