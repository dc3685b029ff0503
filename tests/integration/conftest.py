"""Fixtures for the tests with a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..process import ServerProcess
from .redis_server import RedisProcess

REDIS_STORAGE = {"STORAGE_OBJECT_MODULE": "filtered_websocket.storage_objects.redis"}
ELSEWHERE = {"redis_url", "redis_port", "redis_sentinel", "redis_cluster"}


def is_alive(server: ServerProcess) -> bool:
    return server.process.poll() is None


@pytest.fixture
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A running Redis of this test alone."""
    with RedisProcess(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def start_cluster(
    tmp_path: Path, redis_process: RedisProcess
) -> Iterator[Callable[..., list[ServerProcess]]]:
    """Start servers with these filters that share Redis, and wait until they are ready.

    That is, until they listen and, when Redis is there, hear it. Keywords are options:
    `redis_key="x"` is `--redis_key x`, a list gives several values, True a flag. `environ` holds
    more variables.
    """
    started: list[ServerProcess] = []
    keys: list[object] = []

    def start(
        *filters: str, servers: int = 2, environ: dict[str, str] | None = None, **options: object
    ) -> list[ServerProcess]:
        arguments = ["-f", *filters]
        for name, value in ({"redis_port": redis_process.port} | options).items():
            values = value if isinstance(value, list) else [] if value is True else [value]
            arguments += [f"--{name}", *map(str, values)]
        new = []
        for _ in range(servers):
            server = ServerProcess(tmp_path, *arguments, environ=REDIS_STORAGE | (environ or {}))
            started.append(server)
            keys.append(options.get("redis_key", "fws"))
            new.append(server)
        for server in new:
            assert server.port
        if redis_process.is_up and not ELSEWHERE & set(options):
            key = options.get("redis_key", "fws")
            alive = [s for s, k in zip(started, keys, strict=True) if k == key and is_alive(s)]
            redis_process.wait_for_servers(len(alive), str(key))
        return new

    yield start
    for server in started:
        server.kill()
