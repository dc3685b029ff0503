"""Chains that count and time what their filters do, for a server that shows metrics.

What belongs here: the loops of `filters.base.Chain` again, with the counting in them, since a chain
that nobody measures must not pay for it. What does not: how the counts are shown
(`operation.metrics`).
"""

from __future__ import annotations

import inspect
from bisect import bisect_left
from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from ..counters import Histogram
from .base import Chain, FilterBase, is_cancellation

__all__ = ["FilterMeter", "MeteredChain", "meter_chains"]

TIMES = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)


class FilterMeter:
    """Count the runs of one filter, by how they end, and their times."""

    __slots__ = ("cancelled", "drops", "errors", "name", "is_async", "rejections", "runs", "times")

    def __init__(self, name: str, is_async: bool) -> None:
        self.name = name
        self.is_async = is_async
        self.runs = 0  # that began
        self.drops = 0
        self.errors = 0
        self.rejections = 0
        self.cancelled = 0
        self.times = Histogram(TIMES)  # of those that ended, in whatever way

    @property
    def running(self) -> int:
        """How many runs have begun and not ended."""
        return self.runs - self.times.count

    @property
    def passed(self) -> int:
        """How many runs ended with a message for the next filter."""
        ended_otherwise = self.drops + self.errors + self.rejections + self.cancelled
        return self.times.count - ended_otherwise


class MeteredChain(Chain):
    """Be a chain that counts its runs, by how they end, and those of its filters.

    `running` are the runs that have begun and not ended: of a chain without async filters, none at
    any time between two events.
    """

    __slots__ = (
        "cancelled",
        "dropped",
        "failed",
        "meters",
        "passed",
        "rejected",
        "running",
        "runs",
    )

    def __init__(self, base: type[FilterBase]) -> None:
        super().__init__(base)
        self.meters = tuple(
            FilterMeter(name, inspect.iscoroutinefunction(function))
            for name, function in self.steps
        )
        self.runs = self.running = 0
        self.passed = self.dropped = self.failed = self.rejected = self.cancelled = 0

    def run_sync(self, web_socket_instance: Any, data: Any) -> Any:
        """Run the filters; return the data they leave, or None when one of them ended the chain."""
        self.runs += 1
        for step, meter in zip(self.steps, self.meters, strict=True):
            meter.runs += 1
            times = meter.times
            start = perf_counter()
            try:
                result = step[1](web_socket_instance, data)
                if result is not None and result is not data:
                    data = self.accept(result, data)
            except self.ended_by:
                meter.drops += 1
                self.dropped += 1
                return None
            except self.lets_through:
                meter.rejections += 1
                self.rejected += 1
                raise
            except BaseException as error:  # as in the loop of `Chain`
                meter.errors += 1
                self.report(step[0], error, web_socket_instance)
                if not self.survives_errors:
                    self.failed += 1
                    return None
            finally:
                seconds = perf_counter() - start
                times.counts[bisect_left(TIMES, seconds)] += 1
                times.sum += seconds
        self.passed += 1
        return data

    async def run_async(self, web_socket_instance: Any, data: Any) -> Any:
        """Do as `run_sync`, waiting for each async filter before the next one runs."""
        self.runs += 1
        self.running += 1
        try:
            for step, meter in zip(self.steps, self.meters, strict=True):
                meter.runs += 1
                start = perf_counter()
                try:
                    result = step[1](web_socket_instance, data)
                    if isinstance(result, Awaitable):
                        result = await result
                    if result is not None and result is not data:
                        data = self.accept(result, data)
                except self.ended_by:
                    meter.drops += 1
                    self.dropped += 1
                    return None
                except self.lets_through:
                    meter.rejections += 1
                    self.rejected += 1
                    raise
                except BaseException as error:
                    if is_cancellation(error):
                        meter.cancelled += 1
                        self.cancelled += 1
                        raise
                    meter.errors += 1
                    self.report(step[0], error, web_socket_instance)
                    if not self.survives_errors:
                        self.failed += 1
                        return None
                finally:
                    meter.times.observe(perf_counter() - start)
            self.passed += 1
            return data
        finally:
            self.running -= 1


def meter_chains() -> None:
    """Let all chains that there are count from now on, those of filters' own too."""
    for chain in FilterBase.__subclasses__():
        chain._frozen = MeteredChain(chain)
