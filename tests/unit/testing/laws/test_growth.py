"""How time grows with the message."""

from __future__ import annotations

import pytest

from filtered_websocket.testing.laws.growth import Pattern, find, patterns, pumped
from filtered_websocket.testing.laws.law import Breach
from filtered_websocket.testing.laws.story import Story
from filtered_websocket.testing.laws.watch import Watch

from ...conftest import WriteModule
from .stories import play_of

PREAMBLE = """
import re
from filtered_websocket.filters.base import WebSocketMessageFilter

class Filter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        """


def found(body: str, write_module: WriteModule, *tried: Pattern) -> tuple[list[str], Breach] | None:
    write_module("takes_time.py", PREAMBLE + body)
    play = play_of("takes_time")
    with Watch(play.laws) as watch:
        return find(play, watch, Story(()), tried)


def test_exponential_time(write_module: WriteModule) -> None:
    """It is told with a short message that is enough for it."""
    breach = found("re.match(rb'(a+)+$', msg)", write_module, ("", "b", ""), ("", "a", "!"))
    assert breach is not None
    assert breach[0][-1] == f"alice sent '{'a' * 32}!'"
    assert breach[1].what[0].startswith("the filter takes_time.Filter was still busy after 0.")


def test_quadratic_time(write_module: WriteModule) -> None:
    """It is told with three messages and their times, or with one that takes too long."""
    body = "for i in range(0, len(msg), 8): msg.count(b'x')"
    breach = found(body, write_module, ("", "a", ""))
    assert breach is not None
    assert breach[1].law == "time"
    assert "takes_time.Filter" in breach[1].what[0]


@pytest.mark.parametrize(
    "body", ["pass", "sum(ord(c) for c in msg.decode(errors='ignore')[:9000])", "sorted(msg)"]
)
def test_time_that_grows_with_the_message(body: str, write_module: WriteModule) -> None:
    """As long as that is all, it is right."""
    assert found(body, write_module, ("", "a ", "!"), ("x", "0", "")) is None


def test_patterns_are_made_of_constants_and_of_messages() -> None:
    """Words of a filter are repeated and begun with; of a message, each character in its place."""
    made = list(patterns(["/join "]))
    assert ("", "/join ", "") in made
    assert ("/join ", "a", "!") in made
    assert ("", "j", "!") in made
    assert pumped("abc", 1) == ("a", "b", "c")
    assert pumped("abc", 5) == ("ab", "c", "")
    assert pumped(b"\xff", 0)[1] == "\\"
    assert pumped("", 3) == ("", " ", "")
