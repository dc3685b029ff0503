"""Test rate_limit.py and profanity.py: run `pytest` here."""

from collections.abc import Callable

from filtered_websocket.testing import Pipeline

Start = Callable[..., Pipeline]
TOLD_OFF = "mind your language"
SLOW_DOWN = "slow down: five messages in ten seconds"


def test_five_messages_in_ten_seconds(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("rate_limit", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    for number in range(8):
        ada.send(str(number))
    bob.send("others may speak")
    pipeline.advance(10)
    ada.send("again")
    assert bob.received == ["0", "1", "2", "3", "4", "again"]
    assert ada.received == [SLOW_DOWN, "others may speak"]


def test_words_that_are_not_for_this_chat(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("profanity", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    for message in ("Heck!", "ｈｅｃｋ", "oh, darn it", b"\xff heck"):
        ada.send(message)
    ada.send("check the darned socks")
    assert bob.received == ["check the darned socks"]
    assert ada.received == [TOLD_OFF] * 4


def test_limit_first_so_that_swearing_counts(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("rate_limit", "profanity", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    for message in ["heck"] * 7 + ["sorry"]:
        ada.send(message)
    assert ada.received == [TOLD_OFF] * 5 + [SLOW_DOWN]
    assert bob.received == []


def test_words_first_so_that_swearing_is_free(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("profanity", "rate_limit", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    for message in ["heck"] * 7 + ["sorry"]:
        ada.send(message)
    assert ada.received == [TOLD_OFF] * 7
    assert bob.received == ["sorry"]
