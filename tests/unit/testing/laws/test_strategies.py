"""What is drawn for a filter."""

from __future__ import annotations

import importlib
import json
from types import ModuleType

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from filtered_websocket.server_protocol.request import parse_request
from filtered_websocket.testing.client import request
from filtered_websocket.testing.laws import strategies
from filtered_websocket.testing.laws.story import Ask, Cuts, Leave, Put, Send, SendRaw, Story
from filtered_websocket.testing.laws.strategies import Words

from ...conftest import WriteModule

QUICK = settings(max_examples=2000, database=None)


def test_words_are_those_of_a_filter(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts and bytes in its source, but no documentation and nothing long; and their use."""
    write_module(
        "words.py",
        '''
        """Not this."""
        import re
        WORD = "/join "
        LONG = "%s"

        def f(x, data):
            """Nor this."""
            if x.startswith(b"token:") or x in ("a", "\\ud800") or data.get("kind") == "ask":
                return data["points"] + re.sub(r"a(b", "") + re.match(rb"\\d+", x)
        '''
        % ("x" * 50),
    )
    words = importlib.import_module("words")
    found = strategies.words_of([words])
    assert set(found.texts) == {"/join ", "token:", "kind", "ask", "points", "a", r"a(b", r"\d+"}
    assert set(found.commands) == {"a", "kind", "ask", "token:"}
    assert found.keys == ("kind", "points")
    assert found.patterns == (rb"\d+",)
    assert strategies.words_of([ModuleType("without_source")]) == strategies.Words()


@pytest.mark.parametrize(
    "wanted",
    [
        lambda m: m == "",
        lambda m: isinstance(m, bytes) and m.decode(errors="replace") != m.decode(errors="ignore"),
        lambda m: isinstance(m, str) and m.startswith("/join ") and len(m) > 6,
        lambda m: isinstance(m, str) and m.startswith("{") and "/join " in json.loads(m),
        lambda m: len(m) >= 100,
    ],
    ids=["empty", "no UTF-8", "a word and more", "JSON", "long"],
)
def test_messages_are_of_all_kinds(wanted: object) -> None:
    """What breaks filters is among them."""
    find(strategies.messages(Words(("/join ",), ("/join ",), ("/join ",))), wanted, settings=QUICK)  # type: ignore[arg-type]


@given(strategies.asks(Words(("room", "X-Key", "\n"))))
def test_requests_are_correct(ask: Ask) -> None:
    """Whatever is drawn, the server can read it."""
    head = request(ask.path, ask.headers).removesuffix(b"\r\n\r\n")
    parsed = parse_request(head, "10.0.0.1")
    assert parsed.path.startswith("/")
    for name, value in ask.headers:
        assert parsed.headers[name] == value.strip()


def test_requests_of_an_author() -> None:
    """A path, or a path with headers as pairs or as a dict."""
    drawn = st.sampled_from(["/a", ("/b", {"X": "1"}), ("/c", [("Y", "2")])])
    for ask in (Ask("/a"), Ask("/b", (("X", "1"),)), Ask("/c", (("Y", "2"),))):
        assert find(strategies.given_asks(drawn), lambda a, ask=ask: a == ask) == ask


def test_stories_have_what_the_chains_are_for() -> None:
    """Items where there is a consumer chain, raw bytes where there is a data chain."""
    messages = strategies.messages(Words())

    def has(kind: type, items: st.SearchStrategy[object] | None, raw: bool) -> bool:
        drawn = strategies.stories(messages, None, items, with_raw_data=raw)
        kinds: set[type] = set()

        @settings(max_examples=100, database=None)
        @given(drawn)
        def look(story: Story) -> None:
            kinds.update(map(type, story.steps))

        look()
        return kind in kinds

    assert has(Put, strategies.items(Words()), False)
    assert not has(Put, None, True)
    assert has(SendRaw, None, True)
    assert not has(SendRaw, None, False)
    assert has(Send, None, False)
    assert has(Leave, None, False)


def test_cuts_shrink_to_single_bytes() -> None:
    """That is what shows most differences."""
    assert find(strategies.cuts(), lambda cuts: True) == Cuts(None, 1)
