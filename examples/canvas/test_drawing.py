"""Test drawing.py: run `pytest` here."""

from collections.abc import Callable
from struct import pack

from filtered_websocket.testing import Pipeline

Start = Callable[..., Pipeline]
LINE = pack(">HHHHB", 0, 0, 65535, 65535, 5)


def test_lines_reach_the_others_and_who_comes_later(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("drawing", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    ada.send(LINE)
    bob.send(LINE + LINE)
    assert ada.received == [b"", LINE + LINE]
    assert bob.received == [b"", LINE]
    assert pipeline.connect().received == [LINE + LINE + LINE]


def test_what_are_no_lines_is_dropped(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("drawing", "broadcast_messages")
    ada, bob = pipeline.connect(), pipeline.connect()
    for message in (b"", LINE[:-1], LINE[:-1] + b"\x06", 65 * LINE, 9 * "a"):
        ada.send(message)
    assert bob.received == pipeline.connect().received == [b""]
    assert pipeline.errors == []


def test_the_drawing_is_bounded(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("drawing", "broadcast_messages")
    ada = pipeline.connect()
    for _ in range(800):
        ada.send(64 * LINE)
    (drawing,) = pipeline.connect().received
    assert drawing == 50_000 * LINE
