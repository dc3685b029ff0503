"""What a server counts."""

from __future__ import annotations

import pytest

from filtered_websocket.counters import Counters, Histogram


@pytest.mark.parametrize(
    ("code", "by", "counted"),
    [
        (1000, "client", 1000),
        (1006, "client", 1006),
        (2999, "client", 2999),
        (3001, "client", 3000),
        (4999, "client", 4000),
        (4001, "server", 4001),
    ],
)
def test_close_codes_that_clients_make_up_are_one(code: int, by: str, counted: int) -> None:
    """Else a client could make up two thousand time series; those of filters are the author's."""
    counters = Counters()
    counters.closed(code, by)
    counters.closed(code, by)
    assert counters.closes == {(counted, by): 2}


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    """What is beyond the last bound is in a bucket of its own."""
    histogram = Histogram([1.0, 2.0])
    for seconds in (0.0, 1.0, 1.5, 2.0, 2.5, 100.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 2]
    assert (histogram.count, histogram.sum) == (6, 107.0)
