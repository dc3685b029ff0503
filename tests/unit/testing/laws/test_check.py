"""Filters that break a law, each another one, and those that keep all."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from filtered_websocket.importer import ModuleError
from filtered_websocket.testing import LawBroken, check_filter
from filtered_websocket.testing.laws import LAWS

from ...conftest import WriteModule

WRONG = sorted((Path(__file__).parent / "wrong_filters").glob("*/*.py"))
BUNDLED = (
    ("broadcast_messages", ()),
    ("broadcast_messages_by_token", ()),
    ("broadcast_pubsub", ("broadcast_pubsub", "stdout_pubsub")),
    ("stdout_messages", ("broadcast_messages", "stdout_messages")),
    ("stdout_pubsub", ()),
    ("stdout_rawdata", ("stdout_rawdata", "broadcast_messages")),
)

# Whoever leaves out the law that they break waits for them, again and again.
WITHOUT_END = {"busy_waiting", "never_ends", "puts_back", "waits_for_ever", "waits_for_queue"}

ROOT = Path(__file__).parents[4]
EXAMPLES = ("auth", "broadcast", "hi_morgan", "no_shouting", "popchar", "shout", "slow")

ONLY_ALL = """
from filtered_websocket.filters.base import *

class OnlyAll(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.path != "/all" or request.headers.get("X-Key") != "open-sesame":
            raise RejectHandshake(403)

class Length(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        assert msg.startswith(b"length=")
        return str(10 // (int(msg[7:]) - 7))
"""


@pytest.mark.parametrize("path", WRONG, ids=[f"{p.parent.name}-{p.stem}" for p in WRONG])
def test_a_wrong_filter_breaks_its_law_and_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch, empty_chains: None
) -> None:
    """The story names the filter; without this law the others find nothing."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(path.parent)])
    monkeypatch.chdir(path.parent)
    with pytest.raises(LawBroken) as broken:
        check_filter(path.stem, examples=60)
    assert broken.value.law == path.parent.name
    assert any(f"{path.stem}." in sentence for sentence in broken.value.story)
    if path.stem not in WITHOUT_END:
        check_filter(path.stem, without={path.parent.name: "it is broken"}, examples=3)


def test_there_are_wrong_filters_for_each_law() -> None:
    """Each folder of them is a law, and each law has some."""
    assert {path.parent.name for path in WRONG} == set(LAWS)
    assert len(WRONG) > 30


@pytest.mark.parametrize(("name", "pipeline"), BUNDLED, ids=[name for name, _ in BUNDLED])
def test_the_bundled_filters_keep_all_laws(
    name: str, pipeline: tuple[str, ...], empty_chains: None
) -> None:
    """In the pipelines that they are meant for."""
    check_filter(name, pipeline=pipeline, examples=40)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_keep_all_laws(
    name: str, monkeypatch: pytest.MonkeyPatch, empty_chains: None
) -> None:
    """What the manual shows is what it asks for."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "examples")])
    check_filter(name, examples=10)


def test_a_story_reads_like_one(write_module: WriteModule) -> None:
    """Who did what, which filter failed how, and where."""
    path = write_module(
        "shout.py",
        """
        from filtered_websocket.filters.base import WebSocketMessageFilter

        class Shout(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                return msg[:1].upper() + bytes([msg[0]])
        """,
    )
    with pytest.raises(LawBroken) as broken:
        check_filter("shout")
    assert str(broken.value).splitlines() == [
        'shout breaks the law "exceptions" (no event makes a filter raise):',
        "  alice connected",
        "  alice sent ''",
        "  the filter shout.Shout raised IndexError: bytearray index out of range",
        f"  {path.name}:7: return msg[:1].upper() + bytes([msg[0]])",
    ]


def test_authors_say_what_is_valid(write_module: WriteModule) -> None:
    """Requests and messages are theirs; what they never send is not held against a filter."""
    write_module("only_all.py", ONLY_ALL)
    requests = st.just(("/all", {"X-Key": "open-sesame"}))
    valid = st.integers(8, 99).map(lambda number: f"length={number}")
    check_filter("only_all", requests=requests, messages=valid, examples=30)
    wrong = st.integers(0, 20).map(lambda number: f"length={number}")
    with pytest.raises(LawBroken) as broken:
        check_filter("only_all", requests=requests, messages=wrong)
    assert broken.value.story[1] == "alice sent 'length=7'"
    assert "ZeroDivisionError" in broken.value.story[2]


def test_a_filter_that_is_never_reached(write_module: WriteModule) -> None:
    """A check that checks nothing is told of, with what would help."""
    write_module("only_all.py", ONLY_ALL)
    with pytest.raises(ValueError, match="only_all.Length has never run: pass messages= or requ"):
        check_filter("only_all", requests=st.just("/nothing"), examples=5)


def test_items_are_those_of_the_author(write_module: WriteModule) -> None:
    """A consumer chain that other programs put numbers into is checked with numbers."""
    write_module(
        "numbers_only.py",
        """
        from filtered_websocket.filters.base import WebSocketConsumerFilter

        class Numbers(WebSocketConsumerFilter):
            @classmethod
            def filter(cls, server, item):
                server.users.broadcast(str(item / 2))
        """,
    )
    check_filter("numbers_only", items=st.integers(), examples=20)
    with pytest.raises(LawBroken, match="was put on the queue\n.*TypeError"):
        check_filter("numbers_only", examples=20)


def test_options_and_storage_are_those_of_the_server(write_module: WriteModule) -> None:
    """The pipeline is the one that is meant, with its storage and its options."""
    write_module(
        "my_storage.py",
        """
        from filtered_websocket.storage_objects import default

        class StorageObject(default.StorageObject):
            @classmethod
            def parser(cls, parser):
                parser.add_argument("--room")
                return parser
        """,
    )
    write_module(
        "joins.py",
        """
        from filtered_websocket.filters.base import WebSocketMessageFilter

        class Joins(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                storage = web_socket_instance.storage_object
                storage.add(storage.options.room, web_socket_instance.id)
        """,
    )
    with pytest.raises(LawBroken, match="storage_object\\['kitchen'\\]"):
        check_filter("joins", storage="my_storage", options={"room": "kitchen"}, examples=10)


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ({"without": {"speed": "no"}}, ValueError, "no law 'speed'; the laws are exceptions, p"),
        ({"without": {"time": " "}}, ValueError, "the law 'time' needs a reason"),
        ({"pipeline": ["broadcast_messages"]}, ValueError, "is without stdout_messages"),
        ({"pipeline": "stdout_messages"}, ValueError, r"list of names: \['stdout_messages'\]"),
        ({"pipeline": ["stdout_messages", "no_such"]}, ModuleError, "'no_such' was not found"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: dict[str, object], error: type[Exception], reason: str, empty_chains: None
) -> None:
    """They are told of, instead of a check that is none."""
    with pytest.raises(error, match=reason):
        check_filter("stdout_messages", **arguments)  # type: ignore[arg-type]


def test_a_module_without_filters(write_module: WriteModule) -> None:
    """There is nothing to check in it."""
    write_module("nothing.py", "")
    with (
        pytest.warns(UserWarning, match="has no filters"),
        pytest.raises(ValueError, match="'nothing' has no filters"),
    ):
        check_filter("nothing")


def test_everything_is_put_back(capsys: pytest.CaptureFixture[str], empty_chains: None) -> None:
    """Signals, timers, `time.sleep` and random numbers are what they were; nothing is printed."""

    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(n) for n in (signal.SIGALRM, signal.SIGVTALRM)]
        return (*handlers, time.sleep, random.getstate())  # noqa: TID251 - it is not called

    before = state()
    previous = signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        check_filter("stdout_messages", examples=3)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *previous)
    assert 900 < left < 1000
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert state() == before
    assert capsys.readouterr().out == ""


def test_only_those_who_check_need_hypothesis() -> None:
    """Without it the rest of the test kit works, and who asks for this is told what to install."""
    script = """
import sys
sys.modules["hypothesis"] = None
from filtered_websocket.testing import Pipeline
try:
    from filtered_websocket.testing import check_filter
except ModuleNotFoundError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    expected = "check_filter needs hypothesis: pip install 'filtered_websocket[testing]'\n"
    assert (result.stdout, result.stderr) == (expected, "")
