"""What each case of the test suite is expected to result in.

`expectations.json` has two results for each case: how the server behaved, and how it closed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("expectations.json")

Result = tuple[str, str]


def load() -> dict[str, Result]:
    return {
        case: (behavior, closing)
        for case, (behavior, closing) in json.loads(FILE.read_text()).items()
    }


def save(expected: Mapping[str, Result]) -> None:
    """Write one line for each case, so that a diff names the cases that changed."""
    lines = [f"  {json.dumps(case)}: {json.dumps(result)}" for case, result in expected.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def changes(expected: Mapping[str, Result], results: Mapping[str, Result]) -> dict[str, str]:
    """Return what is to be said of each case that ended worse or better than expected."""
    return {
        case: f"{case}: expected {shown(wanted)}; got {shown(results.get(case))}"
        for case, wanted in expected.items()
        if results.get(case) != wanted
    }


def shown(result: Result | None) -> str:
    return f"{result[0]}, closing {result[1]}" if result else "no result"


def summary(results: Mapping[str, Result]) -> str:
    """Return how many cases ended how, the most frequent result first."""
    kinds = Counter(
        closing if behavior == "OK" else behavior for behavior, closing in results.values()
    )
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
