"""Stories on a pipeline, and what there is to see of them."""

from __future__ import annotations

from filtered_websocket.testing.laws.stage import Stage
from filtered_websocket.testing.laws.story import Ask, Connect, Cuts, Leave, Put, Send, Story
from filtered_websocket.testing.laws.watch import Watch

from ...conftest import WriteModule
from .stories import play_of, played

AUTH = """
from filtered_websocket.filters.base import *

class Auth(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.path != "/in":
            raise RejectHandshake(401)
"""


def test_ids_are_seen_as_names(write_module: WriteModule) -> None:
    """Two plays of a story look the same, though no id is the same."""
    write_module(
        "ids.py",
        """
        from filtered_websocket.filters.base import WebSocketMessageFilter

        class Ids(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                web_socket_instance.sendMessage(f"you are {web_socket_instance.id}")
                web_socket_instance.storage_object.add("all", web_socket_instance.id)
                return web_socket_instance.id.hex
        """,
    )
    _, seen, _ = played(play_of("ids", without="leaks"), Send("alice", "hi"))
    assert seen.received == {"alice, 0": ["you are <alice>"]}
    assert seen.left_by_chain == [("alice", "<alice>")]
    assert seen.stored == ["'all': [\"UUID('<alice>')\"]"]


def test_who_is_refused_does_nothing_more(write_module: WriteModule) -> None:
    """It asks once, with its own request; others come in."""
    write_module("auth.py", AUTH)
    play = play_of("auth")
    story = Story(
        (Send("alice", "1"), Send("alice", "2"), Send("bob", "3")), (("bob", Ask("/in")),)
    )
    with Watch(play.laws) as watch, Stage(play, watch) as stage:
        assert stage.play(story) is None
    assert stage.told[: stage.acts] == [
        "alice was refused, with 401",
        "bob connected to /in",
        "bob sent '3'",
    ]


def test_what_is_cut_arrives_whole(empty_chains: None) -> None:
    """Messages that follow one another are one stream; the server puts them together."""
    steps = (Connect("bob"), Send("alice", "héllo"), Send("alice", b"\xff"), Leave("alice", False))
    told, seen, breach = played(play_of("broadcast_messages"), *steps, cuts=Cuts(2, 5))
    assert breach is None
    assert seen.received["bob, 0"] == ["héllo", b"\xff"]
    assert told[2] == "alice sent 'héllo' and b'\\xff' in 3 fragments in 7 chunks"
    told, *_ = played(play_of("broadcast_messages"), *steps, cuts=Cuts(None, None))
    assert told[2] == "alice sent 'héllo' and b'\\xff' in one chunk"


def test_errors_have_name_reason_and_place(write_module: WriteModule) -> None:
    """Of filters, of what they return, and of what they have started."""
    path = write_module(
        "wrong.py",
        """
        import asyncio
        from filtered_websocket.filters.base import *

        async def later():
            raise LookupError("nothing")

        class Wrong(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                if msg == b"start":
                    cls.task = asyncio.get_running_loop().create_task(later())
                else:
                    return 1 / 0 if msg == b"raise" else 1

        class Forget(WebSocketDisconnectFilter):
            @classmethod
            def filter(cls, web_socket_instance, data):
                Wrong.task = None
        """,
    )
    expected = {
        "raise": ("the filter wrong.Wrong raised ZeroDivisionError: division by zero", 14),
        "return": ("the filter wrong.Wrong returned int; a filter returns None, bytes, byt", 9),
        "start": ("something that wrong has started raised LookupError: nothing", 6),
    }
    for message, (sentence, line) in expected.items():
        _, _, breach = played(play_of("wrong"), Send("alice", message))
        assert breach is not None
        assert breach.law == "exceptions"
        assert breach.what[0].startswith(sentence)
        assert breach.what[1].startswith(f"{path.name}:{line}: ")
    _, _, breach = played(play_of("wrong", without="exceptions"), Send("alice", "raise"))
    assert breach is None


def test_items_are_not_shared_between_plays(write_module: WriteModule) -> None:
    """A filter that changes an item does not change the story."""
    write_module(
        "changes.py",
        """
        from filtered_websocket.filters.base import WebSocketConsumerFilter

        class Changes(WebSocketConsumerFilter):
            @classmethod
            def filter(cls, server, item):
                del item["data"]
        """,
    )
    item = {"data": b"1"}
    assert played(play_of("changes"), Put(item), Put(item))[2] is None
    assert item == {"data": b"1"}
