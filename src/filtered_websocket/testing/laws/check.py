"""Search for a story in which a filter breaks a law."""

from __future__ import annotations

import gc
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from ...filters import __name__ as BUNDLED
from . import growth, leaks, pieces, strategies
from .law import LAWS, Breach, LawBroken
from .stage import Play, Stage
from .story import Ask, Cuts, Story
from .watch import Watch

__all__ = ["check_filter"]

QUIET = {"ping_interval": 0}  # in an hour of a story thousands of pings would be sent
MOST_LEAK_STORIES = 40
MOST_PUMPED = 40
LONGEST_SHORTENING = 5.0  # seconds, for a story that takes long
CONFIRMATIONS = 2  # of a wait that may also have been the machine's
Told = tuple[list[str], Breach]


def check_filter(
    module: str,
    *,
    pipeline: Sequence[str] = (),
    storage: str | None = None,
    options: Mapping[str, Any] | None = None,
    messages: SearchStrategy[str | bytes] | None = None,
    requests: SearchStrategy[Any] | None = None,
    items: SearchStrategy[Any] | None = None,
    without: Mapping[str, str] | None = None,
    examples: int = 100,
) -> None:
    """Look for events on which the filters of `module` break a law; see `LAWS`.

    `pipeline` has all names that follow `-f`, `module` among them, when it does not run alone;
    `storage` names a storage module, `options` are those of the server, by their names.

    The strategies of hypothesis draw what clients send, the requests that they connect with (a
    path, or a pair of path and headers), and items of the queue. Without them anything is drawn.

    `without` has the names of laws that are not checked, each with the reason. `examples` is how
    many stories are played; they are the same ones in each run.

    Raises LawBroken with the shortest story that was found; ValueError for arguments that make no
    sense, or when a filter of the module never ran; and what `Pipeline` raises.
    """
    __tracebackhide__ = True
    without = dict(without or {})
    if unknown := [name for name in without if name not in LAWS]:
        raise ValueError(f"there is no law {unknown[0]!r}; the laws are {', '.join(LAWS)}")
    if unreasonable := [name for name, reason in without.items() if not str(reason).strip()]:
        raise ValueError(f"leaving out the law {unreasonable[0]!r} needs a reason")
    if isinstance(pipeline, str):
        raise ValueError(f"pipeline is a list of names: {pipeline.split()}")
    filters = list(pipeline) or [module]
    if module not in filters:
        raise ValueError(f"the pipeline {' '.join(filters)} is without {module}")
    laws = frozenset(LAWS) - frozenset(without)
    play = Play(module, filters, storage, QUIET | dict(options or {}), laws)
    with undisturbed(), Watch(play.laws) as watch:
        told = _Search(play, watch, messages, requests, items, examples).run()
    if told is not None:
        story, breach = told
        raise LawBroken(module, breach.law, (*story, *filter(None, breach.what)))


class _Search:
    def __init__(
        self,
        play: Play,
        watch: Watch,
        messages: SearchStrategy[str | bytes] | None,
        requests: SearchStrategy[Any] | None,
        items: SearchStrategy[Any] | None,
        examples: int,
    ) -> None:
        self.play = play
        self.watch = watch
        self.examples = examples
        with Stage(play, watch) as stage:
            authors = {
                name: module
                for name, module in stage.pipeline._modules.items()
                if _is_of(play.module, name)
            }
            self.words = strategies.words_of(authors.values())
            self.names = [
                name
                for chain in stage.chains()
                for name, _ in chain.steps
                if any(name.startswith(f"{place}.") for place in authors)
            ]
            server = stage.pipeline.server
            wants_items = bool(server.consumer_chain)
            wants_requests = bool(server.handshake_chain)
            with_raw_data = bool(server.data_chain)
        if not self.names:
            raise ValueError(f"the module {play.module!r} has no filters")
        self.messages = strategies.messages(self.words) if messages is None else messages
        self.asks: SearchStrategy[Ask] | None = None
        if requests is not None:
            self.asks = strategies.given_asks(requests)
        elif wants_requests or self.words.has_requests:
            self.asks = strategies.asks(self.words)
        if items is None and wants_items:
            items = strategies.items(self.words)
        if messages is None:
            self.stories = strategies.stories_of_commands(
                self.words, self.asks, items, with_raw_data=with_raw_data
            )
        else:
            self.stories = strategies.stories(
                messages, self.asks, items, with_raw_data=with_raw_data
            )

    def run(self) -> Told | None:
        """Return a story that breaks a law."""
        ran: set[str] = set()
        told = self._stories(ran)
        if told is None and (idle := [name for name in self.names if name not in ran]):
            raise ValueError(
                f"the filter {idle[0]} has never run: pass messages= or requests= that reach it, "
                "or the pipeline= that it needs"
            )
        if told is None and "time" in self.play.laws:
            told = self._growth_of_time()
        if told is None and "leaks" in self.play.laws:
            told = self._growth_of_state()
        return told

    def _stories(self, ran: set[str]) -> Told | None:
        def judge(story: Story, cuts: Cuts) -> Told | None:
            with Stage(self.play, self.watch) as stage:
                breach = stage.play(story)
            ran.update(self.watch.ran)
            if breach is not None:
                return stage.told, breach
            if "pieces" not in self.play.laws:
                return None
            return pieces.compare(self.play, self.watch, story, stage.seen, cuts)

        return _search(judge, self.stories, strategies.cuts(), examples=self.examples)

    def _growth_of_time(self) -> Told | None:
        first = True

        def judge(message: str | bytes, index: int, ask: Ask) -> Told | None:
            nonlocal first
            tried = [growth.pumped(message, index)]
            if first:
                tried += growth.patterns(self.words.texts)
            first = False
            story = Story((), ((growth.WHO, ask),))
            return growth.find(self.play, self.watch, story, tried)

        return _search(
            judge,
            self.messages,
            st.integers(0, 100),
            st.just(Ask()) if self.asks is None else self.asks,
            examples=min(self.examples, MOST_PUMPED),
        )

    def _growth_of_state(self) -> Told | None:
        def judge(story: Story) -> Told | None:
            with Stage(self.play, self.watch) as stage:
                return leaks.growth(stage, story)

        examples = min(self.examples, MOST_LEAK_STORIES)
        return _search(judge, self.stories, examples=examples)


class _Found(Exception):
    """Tell hypothesis that a law is broken: it looks for a shorter story."""


class _FoundSlowly(BaseException):
    """Stop hypothesis, which catches Exceptions: each try would take a second."""


def _search(
    judge: Callable[..., Told | None],
    *drawn: SearchStrategy[Any],
    examples: int,
) -> Told | None:
    """Return what `judge` finds for what is drawn, for the simplest of it."""
    found: list[Told] = []
    slow: list[Any] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(st.tuples(*drawn))
    def search(arguments: tuple[Any, ...]) -> None:
        told = judge(*arguments)
        if told is None or (found and told[1].law != found[0][1].law):
            return
        if told[1].is_slow and told[1].law == "blocking":
            for _ in range(CONFIRMATIONS):
                again = judge(*arguments)
                if again is None or again[1].law != "blocking":
                    return  # the machine was busy
        found[:] = [told]
        if told[1].is_slow:
            slow.extend(arguments)
            raise _FoundSlowly
        raise _Found

    try:
        search()
    except _FoundSlowly:
        return _shortened(judge, slow, found[0])
    except (_Found, Flaky):
        return found[0]
    return None


def _shortened(judge: Callable[..., Told | None], arguments: list[Any], told: Told) -> Told:
    """Leave out steps, as long as what follows is the same."""
    story, *others = arguments
    if not isinstance(story, Story):
        return told
    until = time.perf_counter() + LONGEST_SHORTENING
    for index in reversed(range(len(story.steps))):
        if len(story.steps) == 1 or time.perf_counter() > until:
            break
        shorter = replace(story, steps=story.steps[:index] + story.steps[index + 1 :])
        again = judge(shorter, *others)
        if again is not None and again[1].law == told[1].law:
            story, told = shorter, again
    return told


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep what filters print and log from where it would bury the story, or hold connections.

    What was there before is not looked at by the garbage collector, which is called often.
    """
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [logging.NullHandler()]
    state = random.getstate()
    freezes = not gc.get_freeze_count()
    if freezes:
        gc.collect()
        gc.freeze()
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            yield
    finally:
        if freezes:
            gc.unfreeze()
        random.setstate(state)
        root.handlers = handlers


def _is_of(module: str, name: str) -> bool:
    """Tell whether an imported module is the one that is checked, or in its package."""
    return name == module or name.startswith(f"{module}.") or name == f"{BUNDLED}.{module}"
