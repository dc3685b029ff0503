"""What is told to authors of programs for 0.4.1."""

from __future__ import annotations

import pytest

from filtered_websocket.migration import GONE, GUIDE, advice


def failure(source: str) -> BaseException:
    """Return what this module raises on import."""
    with pytest.raises(BaseException) as error:
        exec(compile(source, "old.py", "exec"), {})
    return error.value


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import twisted", "twisted"),
        ("from twisted.internet import reactor", "twisted"),
        ("import Queue", "Queue"),
        ("from urllib2 import urlopen", "urllib2"),
        ("xrange(3)", "xrange"),
        (
            "from filtered_websocket.server import build_reactor",
            "filtered_websocket.server.build_reactor",
        ),
        (
            "from filtered_websocket.filters.base import DataFilterMeta",
            "filtered_websocket.filters.base.DataFilterMeta",
        ),
    ],
)
def test_a_name_that_is_gone(source: str, name: str) -> None:
    """A module, a part of it, a name in a module of ours, a built-in name."""
    assert advice(failure(source)) == f"; {GONE[name]}: see {GUIDE}"


@pytest.mark.parametrize(
    "source",
    [
        'print "hello"',
        "print x",
        'if 1:\n    print "%s" % 1, 2',
        'exec "x = 1"',
        'raise ValueError, "text"',
        "try:\n    pass\nexcept (KeyError, ValueError), error:\n    pass",
        "1 <> 2",
        "`1`",
        "0777",
        "10L",
        'ur"x"',
        "if 1:\n        x = 1\n\ty = 2",
    ],
)
def test_python_2(source: str) -> None:
    """Its syntax is told from mistakes."""
    error = failure(source)
    assert isinstance(error, SyntaxError)
    assert advice(error) == f"; this is Python 2: see {GUIDE}"


@pytest.mark.parametrize(
    "source",
    [
        "def f(:",
        "x = (1,",
        'print("hello"',
        "import no_such_module",
        "from os import nope",
        "from os import unicode",
        "nothing",
        "None.unicode",
        "1 / 0",
        "raise ImportError",
        "raise SyntaxError",
        "raise NameError",
        "raise KeyboardInterrupt",
    ],
)
def test_other_errors_get_no_advice(source: str) -> None:
    """Neither mistakes of today, nor a name that is gone from elsewhere."""
    assert advice(failure(source)) == ""


@pytest.mark.parametrize("name", [name for name in GONE if "." in name])
def test_a_name_of_ours_that_is_gone_is_gone(name: str) -> None:
    """Whoever brings it back takes it out of the table."""
    module, _, attribute = name.rpartition(".")
    assert isinstance(failure(f"from {module} import {attribute}"), ImportError)
