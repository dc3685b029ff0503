"""What clients do, and how it is shown."""

from __future__ import annotations

import pytest

from filtered_websocket.testing.laws.story import (
    Ask,
    Connect,
    Knock,
    Leave,
    Put,
    Send,
    SendRaw,
    Story,
    Wait,
    shown,
)

from .stories import play_of, played


def test_each_step_is_told_in_a_sentence(empty_chains: None) -> None:
    """Who is not connected connects before; what happens at the end is told too."""
    told, _, breach = played(
        play_of("broadcast_messages"),
        Connect("bob"),
        Send("alice", "hi"),
        Wait(30.0),
        Put({"type": "gap"}),
        SendRaw("bob", b"\xff"),
        Leave("alice", is_abrupt=True),
        Knock(b"Morgan\n"),
    )
    assert breach is None
    assert told == [
        "bob connected",
        "alice connected",
        "alice sent 'hi'",
        "30 seconds passed",
        "{'type': 'gap'} was put on the queue",
        "bob sent b'\\xff', which is no frame",
        "alice vanished",
        "somebody sent b'Morgan\\n' without a handshake",
        "bob left",
    ]


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (Ask(), ""),
        (Ask("/room?a=1"), " to /room?a=1"),
        (Ask("/", (("X-Key", "1"), ("Cookie", "a=b"))), " with X-Key: 1, Cookie: a=b"),
    ],
)
def test_a_request_is_told_by_what_is_special(ask: Ask, text: str) -> None:
    """The usual one is not worth a word."""
    assert str(ask) == text


def test_each_client_has_its_request() -> None:
    """Who has none asks as usual."""
    story = Story((), (("alice", Ask("/a")),))
    assert (story.ask_of("alice"), story.ask_of("bob")) == (Ask("/a"), Ask())


def test_long_messages_are_shown_by_their_ends() -> None:
    """And by their length; what is no message by its ends."""
    text = shown("a" * 5000 + "!")
    assert text.startswith("'aaa")
    assert text.endswith("aaa!' (5,001 characters)")
    assert len(text) < 100
    assert shown(bytes(100)).endswith("(100 bytes)")
    assert shown(list(range(100))).endswith("98, 99]")
    assert shown("é") == "'é'"
