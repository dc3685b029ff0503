"""What filters keep: who holds on to a connection, and how much there is in all."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from ...importer import NOT_THE_AUTHORS
from .law import Breach
from .story import Put, Send, Story

if TYPE_CHECKING:
    from .stage import Stage

__all__ = ["holder", "growth", "sizes", "sizes_of_the_machinery"]

FIRST_ROUNDS = 8
PATIENCE = 60.0  # seconds that what filters have started may go on after all clients have left
MOST_ROUNDS = 512  # what is bounded may have so many entries
TEXT_PER_ENTRY = 16  # characters of a text that count as one entry
Modules = Mapping[str, ModuleType]


def growth(stage: Stage, story: Story) -> tuple[list[str], Breach] | None:
    """Play a story for ever new clients, as often as something keeps growing with them.

    Returns the story and the breach when it never stops growing.
    """
    rounds, before = 0, stage.sizes()
    told: list[str] = []
    until = FIRST_ROUNDS
    suspects: set[str] | None = None
    while until <= MOST_ROUNDS:
        for number in range(rounds, until):
            _round(stage, story, number)
            told = told or stage.told.copy()
            stage.told.clear()
        with stage.playing():
            stage.pipeline.advance(PATIENCE)
        breach = stage.breach()
        if breach is not None or stage.watch.is_stopped:
            return None if breach is None else (told, breach)
        after = stage.sizes()
        # The first rounds may fill what each filter has once.
        if rounds:
            enough = (until - rounds) // 2
            growing = {name for name in after if after[name] - before.get(name, 0) >= enough}
            suspects = growing if suspects is None else suspects & growing
            if not suspects:
                return None
        rounds, before, until = until, after, until * 2
    assert suspects
    what = max(suspects, key=lambda name: before[name])
    told.append(f"all of this {rounds:,} times, by ever new clients with ever new words")
    grown = f"{what} has {before[what]:,} entries now, and grows with each client"
    return told, Breach("leaks", (grown,), is_slow=True)


def _round(stage: Stage, story: Story, number: int) -> None:
    stage.story = story
    with stage.playing():
        for step in story.steps:
            if isinstance(step, Put):
                stage.put(step.item)
            elif isinstance(step, Send):
                stage.send(step.who, _numbered(step.message, number))
            else:
                step.play(stage)
        stage.leave_all()
        stage.seen.left_by_chain.clear()
        stage.pipeline.advance(0)
    stage.forget_errors()


def _numbered(message: str | bytes, number: int) -> str | bytes:
    """Return a message whose last word is another one in each round."""
    if isinstance(message, bytes):
        return re.sub(rb"(\w)(\W*)\Z", rb"\g<1>%d\g<2>" % number, message)
    return re.sub(r"(\w)(\W*)\Z", rf"\g<1>{number}\g<2>", message)


# Who holds a connection


def holder(modules: Modules, loop: asyncio.AbstractEventLoop, target: Callable[[], Any]) -> str:
    """Return where in the modules, or in the tasks of a loop, an object is."""
    for name, value in _state(modules):
        for reached in _reach(value, modules):
            if reached is target():
                return f" in {name}"
    for task in asyncio.all_tasks(loop):
        coroutine: Any = task.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            for name, value in frame.f_locals.items():
                if value is target():
                    where = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"
                    return f" by the variable {name} of the task {where}"
            coroutine = coroutine.cr_await
    return ", perhaps by a timer or a closure"


# How much there is


def sizes(modules: Modules) -> dict[str, int]:
    """Return how many entries each variable of the modules has, with all that is in it."""
    found: dict[str, int] = {}
    for name, value in _state(modules):
        found[name] = sum(map(_size, _reach(value, modules)))
    return found


def sizes_of_the_machinery() -> dict[str, int]:
    """Return how many tasks and threads there are."""
    return {
        "the event loop (tasks that do not end)": len(asyncio.all_tasks()),
        "the process (threads that do not end)": threading.active_count(),
    }


def _size(value: Any) -> int:
    if isinstance(value, deque) and value.maxlen is not None:
        return 0
    if isinstance(value, str | bytes | bytearray):
        return len(value) // TEXT_PER_ENTRY
    if isinstance(value, dict | list | set | frozenset | deque):
        return len(value)
    if callable(info := getattr(value, "cache_info", None)) and info().maxsize is None:
        return int(info().currsize)
    return 0


def _state(modules: Modules) -> Iterator[tuple[str, Any]]:
    """Yield the variables of the modules, of their classes, and of modules that they import."""
    seen: set[str] = set()
    queue = list(modules.values())
    while queue:
        module = queue.pop()
        if module.__name__ in seen:
            continue
        seen.add(module.__name__)
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType):
                if _is_authors(value):
                    queue.append(value)
            elif isinstance(value, type):
                if value.__module__ == module.__name__:
                    for attribute, inner in list(vars(value).items()):
                        if not attribute.startswith("__"):
                            yield f"{module.__name__}.{value.__qualname__}.{attribute}", inner
            elif not name.startswith("__"):
                yield f"{module.__name__}.{name}", value


def _is_authors(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not file.startswith(NOT_THE_AUTHORS)


def _reach(value: Any, modules: Modules) -> Iterator[Any]:
    """Yield a value and all that is in it, as far as it is data."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        stack.extend(_parts(value, modules))


def _parts(value: Any, modules: Modules) -> list[Any]:
    if isinstance(value, str | bytes | bytearray | int | float | type | ModuleType):
        return []
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(value)
    if isinstance(value, classmethod | staticmethod):
        return [value.__func__]
    if isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _is_filled(c)]
        return [*cells, *(value.__defaults__ or ()), *vars(value).values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    place = type(value).__module__
    is_ours = place.startswith("filtered_websocket.") and place not in modules
    return [] if is_ours else list(getattr(value, "__dict__", {}).values())


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises ValueError when it is empty
    except ValueError:
        return False
    return True
