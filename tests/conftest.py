"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from filtered_websocket.filters.base import FilterBase

from .example_folder import ExampleFolder
from .process import ServerProcess


@pytest.fixture
def empty_chains() -> Iterator[None]:
    """Run a test with no filter registered, and forget those that it registers."""
    chains = {chain: list(chain._filters) for chain in FilterBase.__subclasses__()}
    for chain in chains:
        chain._filters.clear()
        chain._frozen = None
    yield
    for chain, filters in chains.items():
        chain._filters[:] = filters
        chain._frozen = None


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start `fws_server` in the test's own directory; every server is stopped at the end."""
    servers: list[ServerProcess] = []

    def start(*arguments: str, **settings: object) -> ServerProcess:
        server = ServerProcess(tmp_path, *arguments, **settings)  # type: ignore[arg-type]
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def example_folder(tmp_path: Path) -> Iterator[Callable[..., ExampleFolder]]:
    """Copy a folder of `examples/` to run its commands; what they started ends with the test."""
    folders: list[ExampleFolder] = []

    def copy(name: str, **settings: int) -> ExampleFolder:
        folders.append(ExampleFolder(name, tmp_path, **settings))
        return folders[-1]

    yield copy
    for folder in folders:
        folder.kill()
