"""What the unit tests share: async tests, filters in one line, modules on disk."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from filtered_websocket.filters.base import FilterBase

EXAMPLES = str(Path(__file__).parents[2] / "examples")
WriteModule = Callable[[str, str], Path]

# No test may depend on how fast the machine is.
settings.register_profile(
    "unit",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
settings.load_profile("unit")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is `async def` in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    fixtures = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def limited() -> None:
        async with asyncio.timeout(10):
            await pyfuncitem.obj(**fixtures)

    asyncio.run(limited())
    return True


async def idle() -> None:
    """Let the event loop do all that can be done without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


def add(chain: type[FilterBase], body: Callable[[Any, Any], Any]) -> None:
    """Add a filter that does what `body` does, as a class statement would."""
    type("Added", (chain,), {"filter": staticmethod(body), "__module__": body.__module__})


@pytest.fixture(autouse=True)
def path_without_examples() -> Iterator[None]:
    """Forget the folders that pytest searches where it runs the tests of the examples as well."""
    before = sys.path.copy()
    sys.path[:] = [folder for folder in before if not folder.startswith(EXAMPLES)]
    yield
    sys.path[:] = before


@pytest.fixture
def write_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_chains: None
) -> Iterator[WriteModule]:
    """Write modules into the current directory, importable as for `fws_server`, and forget them."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
        importlib.invalidate_caches()
        return path

    yield write
    for name in set(sys.modules) - known:
        if not name.startswith("filtered_websocket"):
            del sys.modules[name]
