"""Test command_output.py: run `pytest` here."""

import time
from collections.abc import Callable

import pytest

from filtered_websocket.testing import Client, Pipeline

Start = Callable[..., Pipeline]


@pytest.fixture
def start(fws_pipeline: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Pipeline]:
    def start(command: str) -> Pipeline:
        monkeypatch.setenv("COMMAND", command)
        return fws_pipeline("command_output", "broadcast_pubsub")

    return start


def wait_until(pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    """Let the command run, which has a clock of its own."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        pipeline.advance(0.1)


def end(pipeline: Pipeline, *clients: Client) -> None:
    (task,) = pipeline.module("command_output").running
    assert not task.done()
    for client in clients:
        client.close()
    wait_until(pipeline, task.done)


def text(client: Client) -> str:
    return "".join(map(str, client.received))


def test_all_clients_see_what_the_command_prints(start: Callable[[str], Pipeline]) -> None:
    pipeline = start("sleep 0.2; echo größer; ls /nowhere; head -c 100000 /dev/zero; exec sleep 60")
    ada, bob = pipeline.connect(), pipeline.connect()
    wait_until(pipeline, lambda: text(bob).count("\0") == 100_000)
    assert text(ada) == text(bob)
    assert text(ada).startswith("größer\n") and "/nowhere" in text(ada)
    end(pipeline, ada, bob)


def test_the_command_ends_with_the_last_client(start: Callable[[str], Pipeline]) -> None:
    pipeline = start("trap '' TERM; while :; do echo $$; sleep 0.01; done")
    ada, bob = pipeline.connect(), pipeline.connect()
    wait_until(pipeline, lambda: "\n" in text(ada))
    ada.close()
    end(pipeline, bob)
    carol = pipeline.connect()
    wait_until(pipeline, lambda: "\n" in text(carol))
    first, second = text(ada).split()[0], text(carol).split()[0]
    assert first != second, "it was started anew"
    end(pipeline, carol)
