"""Test nicknames.py: run `pytest` here."""

import json
from collections.abc import Callable

from filtered_websocket.testing import Pipeline

Start = Callable[..., Pipeline]


def test_a_message_carries_the_nickname_of_its_sender(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("nicknames", "broadcast_messages")
    ada, bob = pipeline.connect("/?nickname=Ada"), pipeline.connect("/?nickname=Bob")
    ada.send('hello "Bob" <b>')
    ada.send(" ")
    ada.send(b"\x00")
    assert [json.loads(message) for message in bob.received] == [
        {"joined": "Bob"},
        {"nickname": "Ada", "text": 'hello "Bob" <b>'},
    ]
    ada.vanish()
    assert json.loads(bob.received[-1]) == {"left": "Ada"}


def test_a_nickname_is_taken_until_its_client_is_gone(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("nicknames", "broadcast_messages")
    ada = pipeline.connect("/?nickname=Ada")
    impostor = pipeline.connect("/?nickname=ADA")
    assert (impostor.close_code, impostor.close_reason) == (4001, "ADA is taken")
    assert pipeline.connect("/?nickname=ada").close_code == 4001, "the impostor has freed nothing"
    assert [json.loads(message) for message in ada.received] == [{"joined": "Ada"}]
    ada.close()
    assert pipeline.connect("/?nickname=ada").is_open


def test_a_nickname_is_short_and_can_be_seen(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("nicknames", "broadcast_messages")
    for query in (
        "",
        "?nickname=",
        "?nickname=%20",
        "?nickname=" + 21 * "x",
        "?nickname=a%E2%80%AEb",
    ):
        assert pipeline.connect("/" + query).close_code == 4000
    assert pipeline.connect("/?nickname=Zo%C3%AB%20%F0%9F%90%A2").is_open
    assert pipeline.errors == []
