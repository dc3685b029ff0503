"""The real `redis-server` as a process, for tests."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import redis

from ..process import DEADLINE, wait_until


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisProcess:
    """Run `redis-server` in `folder` on one free port, again and again on the same.

    `config` are more lines for its configuration, `command` the program (`redis-sentinel`).
    """

    def __init__(
        self, folder: Path, *config: str, port: int | None = None, command: str = "redis-server"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.command = command
        self.port = free_port() if port is None else port
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.is_up = False
        self._clients: list[redis.Redis] = []
        self._password = next(
            (line.split()[1] for line in config if line.startswith("requirepass ")), None
        )
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {folder}", "logfile redis.log"]
        if command == "redis-server":
            lines += ['save ""', "appendonly no", "enable-debug-command yes"]
        (folder / "redis.conf").write_text("\n".join([*lines, *config, ""]))

    def __enter__(self) -> RedisProcess:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> RedisProcess:
        """Start it, and wait until it answers."""
        assert self.process is None
        self.process = subprocess.Popen(
            [self.command, str(self.folder / "redis.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, f"the start of {self.command}")
        self.is_up = True
        return self

    def kill(self) -> None:
        """End it as a crash does; harmless when it does not run."""
        self.is_up = False
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None

    def restart(self) -> None:
        """Kill it, and start it with nothing in it."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Freeze it (SIGSTOP): its connections stay up, and nobody answers."""
        assert self.process is not None
        self.is_up = False
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on after `stop`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.is_up = True

    def connect(self, **options: Any) -> redis.Redis:
        """Return a client of redis-py as anybody makes it; closed with this."""
        client = redis.Redis(
            host="127.0.0.1", port=self.port, **{"password": self._password, **options}
        )
        self._clients.append(client)
        return client

    def wait_for_servers(self, count: int, key: str = "fws") -> None:
        """Wait until at least so many servers with this --redis_key hear each other."""
        channel = f"{key}:cluster:all"
        with self.connect() as client:
            wait_until(lambda: client.pubsub_numsub(channel)[0][1] >= count, "the subscriptions")

    def close(self) -> None:
        """End it and its clients for good."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.kill()

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self._log()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(7).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _log(self) -> str:
        log = self.folder / "redis.log"
        return log.read_text() if log.exists() else f"{self.command} wrote no log"
