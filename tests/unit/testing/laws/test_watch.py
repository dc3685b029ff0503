"""What blocks the event loop or keeps it busy is noticed, and nothing else."""

from __future__ import annotations

import threading

import pytest

from filtered_websocket.testing.laws.story import Send
from filtered_websocket.testing.laws.watch import Watch

from ...conftest import WriteModule
from .stories import play_of, played

PREAMBLE = """
import asyncio, fcntl, os, socket, subprocess, tempfile, threading, time
from filtered_websocket.filters.base import WebSocketMessageFilter

class Filter(WebSocketMessageFilter):
    @classmethod
"""
SYNC = PREAMBLE + "    def filter(cls, web_socket_instance, msg):\n        "
ASYNC = PREAMBLE + "    async def filter(cls, web_socket_instance, msg):\n        "


@pytest.mark.parametrize(
    ("source", "call"),
    [
        (SYNC + "time.sleep(60)", "time.sleep(60)"),
        (ASYNC + "await asyncio.sleep(1); time.sleep(60)", "time.sleep(60)"),
        (SYNC + "subprocess.run(['sleep', '60'])", "subprocess.Popen"),
        (SYNC + "os.system('sleep 60')", "os.system"),
        (SYNC + "socket.create_connection(('192.0.2.1', 9))", "socket.getaddrinfo"),
        (SYNC + "with socket.socket() as s: s.connect(('192.0.2.1', 9))", "socket.connect"),
        (SYNC + "input()", "input"),
        (SYNC + "with tempfile.TemporaryFile() as f: fcntl.flock(f, fcntl.LOCK_EX)", "fcntl.flock"),
        (
            SYNC + "path = tempfile.mkdtemp() + '/pipe'; os.mkfifo(path); open(path)",
            "open, of a named pipe",
        ),
    ],
)
def test_what_blocks_is_stopped_before_it_does(
    source: str, call: str, write_module: WriteModule
) -> None:
    """Each is told with the filter and its line, and takes no time."""
    write_module("blocks.py", source)
    _, _, breach = played(play_of("blocks"), Send("alice", ""))
    assert breach is not None
    assert breach.law == "blocking"
    assert breach.what[0] == f"the filter blocks.Filter called {call}, which blocks the event loop"
    assert "blocks.py:8: " in breach.what[1]


@pytest.mark.parametrize(
    "source",
    [
        SYNC + "time.sleep(0)",
        ASYNC + "await asyncio.sleep(60)",
        ASYNC + "await asyncio.to_thread(time.sleep, 0.1)",
        SYNC + "open(__file__).close()",
        SYNC + "with open(__file__) as f: fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        SYNC
        + "s = socket.socket(); s.setblocking(False); s.connect_ex(('127.0.0.1', 9)); s.close()",
        SYNC + "threading.Lock().acquire()",
        SYNC + "threading.Thread(target=time.sleep, args=(0.01,)).start()",
    ],
)
def test_what_does_not_block_is_right(source: str, write_module: WriteModule) -> None:
    """Waiting in the event loop, in threads, and for nothing."""
    write_module("waits.py", source)
    assert played(play_of("waits"), Send("alice", ""))[2] is None


def test_waiting_without_a_name_is_measured(write_module: WriteModule) -> None:
    """A wait that nothing announces is noticed by its time; one that never ends is ended."""
    write_module("waits.py", SYNC + "threading.Event().wait(0.2 if msg else None)")
    for message, what in (("short", "waited for 0.2"), ("", "waited for more than 0.5 s")):
        _, _, breach = played(play_of("waits"), Send("alice", message))
        assert breach is not None
        assert breach.law == "blocking"
        assert breach.is_slow
        assert breach.what[0].startswith(f"the filter waits.Filter {what}")


def test_a_busy_filter_is_interrupted(write_module: WriteModule) -> None:
    """Also one that catches all Exceptions, in a task, and with the law left out."""
    source = """
    import asyncio
    from filtered_websocket.filters.base import WebSocketMessageFilter

    class Busy(WebSocketMessageFilter):
        @classmethod
        def filter(cls, web_socket_instance, msg):
            if msg:
                cls.task = asyncio.get_running_loop().create_task(busy())
            while not msg:
                try:
                    pass
                except Exception:
                    pass

    async def busy():
        while True:
            pass
    """
    write_module("busy.py", source)
    for message, who in (("", "the filter busy.Busy"), ("x", "something that busy has started")):
        _, _, breach = played(play_of("busy"), Send("alice", message))
        assert breach is not None
        assert breach.law == "time"
        assert breach.what[0].startswith(f"{who} was still busy after 0.")
    assert played(play_of("busy", without="time"), Send("alice", ""))[2] is None


def test_without_the_law_calls_are_made(write_module: WriteModule) -> None:
    """What an author has left out with a reason works as ever."""
    write_module("counts.py", SYNC + "time.sleep(0.001); web_socket_instance.sendMessage(b'slept')")
    _, seen, breach = played(play_of("counts", without="blocking"), Send("alice", ""))
    assert breach is None
    assert seen.received == {"alice, 0": ["slept"]}


def test_one_at_a_time() -> None:
    """Two watches would take the signals from each other."""
    with Watch(set()), pytest.raises(RuntimeError, match="one filter can be checked at a time"):
        Watch(set()).__enter__()


def test_a_thread_has_no_signals() -> None:
    """There the timers are left out, and the rest works."""
    failed: list[BaseException] = []

    def watch() -> None:
        try:
            with Watch(set()):
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert failed == []
