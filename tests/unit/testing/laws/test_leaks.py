"""What filters keep of clients that are gone."""

from __future__ import annotations

import pytest

from filtered_websocket.testing.laws import leaks
from filtered_websocket.testing.laws.law import Breach
from filtered_websocket.testing.laws.stage import Stage
from filtered_websocket.testing.laws.story import Send, Story
from filtered_websocket.testing.laws.watch import Watch

from ...conftest import WriteModule
from .stories import play_of, played

PREAMBLE = """
import collections, functools, itertools, weakref
from filtered_websocket.filters.base import WebSocketMessageFilter

state = {state}

class Filter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        {body}
"""


def growth(module: str) -> Breach | None:
    play = play_of(module)
    with Watch(play.laws) as watch, Stage(play, watch) as stage:
        found = leaks.growth(stage, Story((Send("alice", "room"),)))
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("state", "body", "where"),
    [
        ("[]", "state.append(web_socket_instance)", " in keeps.state"),
        ("{}", "state[1] = (2, [{3: web_socket_instance}])", " in keeps.state"),
        ("None", "cls.last = web_socket_instance", " in keeps.Filter.last"),
        ("[]", "state.append(web_socket_instance.sendMessage)", " in keeps.state"),
        ("[]", "state.append(lambda: web_socket_instance)", " in keeps.state"),
        ("iter([])", "state = iter([web_socket_instance]); cls.i = state", ", perhaps by a timer"),
    ],
)  # fmt: skip
def test_a_connection_that_is_kept(
    state: str, body: str, where: str, write_module: WriteModule
) -> None:
    """It is told whose it is, and where it is kept, as far as that can be seen."""
    write_module("keeps.py", PREAMBLE.format(state=state, body=body))
    _, _, breach = played(play_of("keeps"), Send("alice", "hi"))
    assert breach is not None
    assert breach.what[0].startswith(f"the connection of alice is gone, and still kept{where}")
    assert breach.what[1] == "the filters that ran: keeps.Filter"


@pytest.mark.parametrize(
    ("state", "body", "what"),
    [
        ("set()", "state.add(web_socket_instance.id)", "grows.state"),
        ("{}", "state.setdefault(bytes(msg), [])", "grows.state"),
        ("itertools.count()", "setattr(cls, f'a{next(state)}', 1)", None),
        ("functools.lru_cache(None)(len)", "state(bytes(msg))", "grows.state"),
        ("bytearray()", "state.extend(bytes(16))", "grows.state"),
        ("0", "web_socket_instance.storage_object.add(bytes(msg), 1)", "the storage"),
    ],
)
def test_state_that_grows_with_clients(
    state: str, body: str, what: str | None, write_module: WriteModule
) -> None:
    """Each new client, with words of its own, adds to it."""
    write_module("grows.py", PREAMBLE.format(state=state, body=body))
    breach = growth("grows")
    if what is not None:
        assert breach is not None
        assert breach.what[0].startswith(f"{what} has ")


@pytest.mark.parametrize(
    ("state", "body"),
    [
        ("set()", "state.add(len(state) % 100)"),
        ("collections.deque(maxlen=10_000)", "state.append(bytes(msg))"),
        ("functools.lru_cache(10_000)(len)", "state(bytes(msg))"),
        ("weakref.WeakSet()", "state.add(type('Own', (), {}))"),
        ("[]", "state[:] = [*state[-49:], bytes(msg)]"),
        ("{}", "state['latest'] = bytes(msg)"),
    ],
)
def test_state_that_is_bounded(state: str, body: str, write_module: WriteModule) -> None:
    """It may grow, as long as it stops."""
    write_module("bounded.py", PREAMBLE.format(state=state, body=body))
    assert growth("bounded") is None


def test_a_connection_in_a_task(write_module: WriteModule) -> None:
    """A variable of a task that goes on is told by its name."""
    write_module(
        "clock.py",
        """
        import asyncio
        from filtered_websocket.filters.base import WebSocketMessageFilter

        class Clock(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                cls.task = asyncio.get_running_loop().create_task(tell(web_socket_instance.users))

        async def tell(users):
            while True:
                for user in users.values():
                    user.sendMessage("tick")
                await asyncio.sleep(1)
        """,
    )
    _, _, breach = played(play_of("clock"), Send("alice", "hi"))
    assert breach is not None
    assert breach.what[0].endswith("still kept by the variable user of the task clock.tell")


def test_ids_in_the_storage(write_module: WriteModule) -> None:
    """Those of clients that are gone are told with the key, also as text."""
    write_module(
        "joins.py",
        PREAMBLE.format(
            state="0",
            body="web_socket_instance.storage_object.add('room', str(web_socket_instance.id))",
        ),
    )
    _, _, breach = played(play_of("joins"), Send("alice", "hi"))
    assert breach is not None
    assert breach.what[0] == "alice is gone, and still in storage_object['room']"


def test_state_of_other_modules_of_the_author(write_module: WriteModule) -> None:
    """A filter may keep what it knows elsewhere."""
    write_module("memory.py", "seen = set()\n")
    write_module(
        "uses_memory.py",
        "import memory\n"
        + PREAMBLE.format(state="0", body="memory.seen.add(web_socket_instance.id)"),
    )
    breach = growth("uses_memory")
    assert breach is not None
    assert breach.what[0].startswith("memory.seen has ")
