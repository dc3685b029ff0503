"""The life of a server: what can go wrong at its start. The rest runs in the real process."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from argparse import Namespace
from typing import Any

import pytest

from filtered_websocket import runner
from filtered_websocket.config import resolve
from filtered_websocket.options import default_parser
from filtered_websocket.runner import StartError
from filtered_websocket.storage_objects.default import StorageObject


def make_options(*arguments: str) -> Namespace:
    return resolve(default_parser(), arguments, {}).options


@pytest.mark.parametrize(("given", "missing"), [("-key", "-cert"), ("-cert", "-key")])
def test_half_a_pair(given: str, missing: str) -> None:
    """TLS needs both files; one alone is an error that names the other."""
    with pytest.raises(StartError, match=f"^{given} was given without {missing}: TLS needs both$"):
        runner._certificate(make_options(given, "file.pem"))


def test_no_tls_without_files() -> None:
    """Neither key nor certificate means plain HTTP."""
    assert runner._certificate(make_options()) is None


def test_a_storage_that_cannot_be_made(empty_chains: None) -> None:
    """What a storage object raises at its start is told in one line, with its name."""

    class StorageObject:
        def __init__(self, options: Namespace) -> None:
            raise OSError("no disk")

    with pytest.raises(StartError, match=r"test_runner\..*StorageObject failed: OSError: no disk$"):
        runner.run(make_options("-p", "0"), StorageObject)


def test_a_check_makes_the_storage_and_listens_to_nobody(empty_chains: None) -> None:
    """What a start makes is made in an event loop; the port is not looked at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = make_options("-p", str(taken.getsockname()[1]))

        class Storage(StorageObject):
            def __init__(self, options: Namespace) -> None:
                super().__init__(options)
                self.loop = asyncio.get_running_loop()

        storage = runner.check(options, Storage)
    assert isinstance(storage, Storage)
    assert storage.loop.is_closed()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-key", "file.pem"],
        ["-key", "gone.pem", "-cert", "gone.pem"],
        ["--origins", "chat.example"],
        ["--host", "no.such.host.invalid"],
        ["--host", "127.0.0.1", "--unix_socket", "s"],
    ],
)
def test_a_check_finds_what_a_start_does(empty_chains: None, arguments: list[str]) -> None:
    """It fails with the words of the start."""
    errors = []
    for do in (runner.check, runner.run):
        with pytest.raises(StartError) as error:
            do(make_options("-p", "0", *arguments), StorageObject)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


# What must not end in a traceback


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ConnectionResetError(), logging.DEBUG),
        (ConnectionResetError, logging.DEBUG),
        (TimeoutError(), logging.DEBUG),
        (ssl.SSLError(), logging.DEBUG),
        (OSError(errno.EMFILE, "Too many open files"), logging.ERROR),
        (ValueError(), logging.ERROR),
    ],
)
async def test_what_the_event_loop_reports(
    error: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """How peers break connections is for debugging; what the server lacks is an error."""
    caplog.set_level(logging.DEBUG, "filtered_websocket")
    loop = asyncio.get_running_loop()
    context = {"message": "it failed", "exception": error, "transport": None}
    runner._log_loop_error(loop, context)
    assert [record.levelno for record in caplog.records] == [level]
