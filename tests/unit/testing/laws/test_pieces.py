"""The same result, however bytes are cut."""

from __future__ import annotations

from filtered_websocket.testing.laws.law import Breach
from filtered_websocket.testing.laws.pieces import compare
from filtered_websocket.testing.laws.stage import Stage
from filtered_websocket.testing.laws.story import Cuts, Send, Step, Story
from filtered_websocket.testing.laws.watch import Watch

from ...conftest import WriteModule
from .stories import play_of


def compared(module: str, cuts: Cuts, *steps: Step) -> tuple[list[str], Breach] | None:
    play, story = play_of(module), Story(steps)
    with Watch(play.laws) as watch:
        with Stage(play, watch) as stage:
            assert stage.play(story) is None
        return compare(play, watch, story, stage.seen, cuts)


def test_the_difference_is_told(write_module: WriteModule) -> None:
    """What came of it in pieces, what else, and by which filter."""
    write_module(
        "counts.py",
        """
        from filtered_websocket.filters.base import *

        class Count(WebSocketDataFilter):
            @classmethod
            def filter(cls, web_socket_instance, data):
                web_socket_instance.state["n"] = web_socket_instance.state.get("n", 0) + 1

        class Tell(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                web_socket_instance.sendMessage(str(web_socket_instance.state["n"] < 4))
        """,
    )
    assert compared("counts", Cuts(2, None), Send("alice", "hello")) is None
    found = compared("counts", Cuts(None, 5), Send("alice", "hello"))
    assert found is not None
    told, breach = found
    assert told[1:] == ["alice sent 'hello' in 3 chunks"]
    assert breach.law == "pieces"
    assert breach.what == (
        "alice received 'False'; with each message in one piece it is 'True'",
        "the filter counts.Count made the difference",
    )


def test_what_is_never_the_same_is_not_compared(write_module: WriteModule) -> None:
    """The time, or a random number, says nothing about how bytes are cut; the rest does."""
    write_module(
        "clock.py",
        """
        import os, time
        from filtered_websocket.filters.base import WebSocketMessageFilter

        class Clock(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                web_socket_instance.sendMessage(str(time.perf_counter_ns()))
                return os.urandom(8)
        """,
    )
    assert compared("clock", Cuts(1, 1), Send("alice", "hello"), Send("alice", "you")) is None


def test_a_request_in_pieces(write_module: WriteModule) -> None:
    """Who is let in must not depend on it."""
    write_module(
        "first.py",
        """
        from filtered_websocket.filters.base import *

        class First(WebSocketDataFilter):
            @classmethod
            def filter(cls, web_socket_instance, data):
                web_socket_instance.state.setdefault("is_whole", b"Upgrade" in data)

        class Auth(WebSocketHandshakeFilter):
            @classmethod
            def filter(cls, web_socket_instance, request):
                if not web_socket_instance.state["is_whole"]:
                    raise RejectHandshake(400)
        """,
    )
    found = compared("first", Cuts(None, 9), Send("alice", ""))
    assert found is not None
    assert found[0][0].startswith("alice was refused in ")
    assert found[1].what[0] == "alice was not let in; with the request in one piece it is not so"
