"""Test presence.py: run `pytest` here."""

import json
from collections.abc import Callable
from typing import Any

from filtered_websocket.testing import Client, Pipeline

Start = Callable[..., Pipeline]


def take_events(client: Client) -> list[dict[str, Any]]:
    events = [json.loads(message) for message in client.received]
    client.received.clear()
    return events


def test_everybody_hears_who_comes_and_goes(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("presence")
    ada = pipeline.connect("/?name=Ada")
    (welcome,) = take_events(ada)
    assert [person["name"] for person in welcome["here"]] == ["Ada"]
    bob = pipeline.connect("/?name=Bob")
    (welcome,) = take_events(bob)
    assert [person["name"] for person in welcome["here"]] == ["Ada", "Bob"]
    assert take_events(ada) == [{"changed": {"id": welcome["you"], "name": "Bob", "away": False}}]
    bob.vanish()
    assert take_events(ada) == [{"left": welcome["you"]}]


def test_who_is_away_is_told_once(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("presence")
    ada, bob = pipeline.connect("/?name=Ada"), pipeline.connect("/?name=Bob")
    ada.received.clear()
    for message in ("away", "away", "nonsense", b"\xff", "back"):
        bob.send(message)
    assert [event["changed"]["away"] for event in take_events(ada)] == [True, False]


def test_a_name_is_bounded(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("presence")
    for query, name in [
        ("", "somebody"),
        ("?name=%20", "somebody"),
        ("?name=" + 99 * "x", 20 * "x"),
    ]:
        client = pipeline.connect("/" + query)
        assert take_events(client)[0]["here"][0]["name"] == name
        client.close()


def test_who_does_not_answer_pings_is_gone(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("presence", ping_interval=5, ping_timeout=5)
    ada, bob = pipeline.connect("/?name=Ada"), pipeline.connect("/?name=Bob")
    ada.received.clear()
    bob.stop_reading()
    pipeline.advance(15)
    assert [list(event) for event in take_events(ada)] == [["left"]]
