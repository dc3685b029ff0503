"""The command `fws_server`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket import cli
from filtered_websocket.operation.logs import LogHandler
from filtered_websocket.runner import StartError

from .conftest import WriteModule


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("STORAGE_OBJECT_MODULE", raising=False)
    for place, name in ((warnings, "showwarning"), (threading, "excepthook")):
        monkeypatch.setattr(place, name, getattr(place, name))
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    root = logging.getLogger()
    level = root.level
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.setLevel(level)
    root.handlers[:] = [h for h in root.handlers if not isinstance(h, LogHandler)]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Namespace, Any]]:
    """Stop before the server listens; keep what it would have been started with."""
    calls: list[tuple[Namespace, Any]] = []

    def run(options: Namespace, storage_class: Any, reread: Any) -> int:
        calls.append((options, storage_class))
        return 0

    monkeypatch.setattr(cli, "run", run)
    return calls


def test_a_start(started: list[Any], write_module: WriteModule) -> None:
    """Options, filters and storage of the command line and environment reach the runner."""
    write_module("cli_filter.py", "from filtered_websocket.filters.stdout_messages import *\n")
    assert cli.main(["-p", "0", "-f", "cli_filter", "--no_console"]) == 0
    ((options, storage_class),) = started
    assert (options.port, options.filters, options.no_console) == (0, ["cli_filter"], True)
    assert storage_class.__module__ == "filtered_websocket.storage_objects.default"
    assert "cli_filter" in sys.modules


def test_arguments_come_from_the_command_line(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, write_module: WriteModule
) -> None:
    """The console script calls `main()` without arguments."""
    monkeypatch.setattr(sys, "argv", ["fws_server", "-p", "7", "-f"])
    assert cli.main() == 0
    assert started[0][0].port == 7


def test_the_current_directory_is_importable(
    started: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    write_module: WriteModule,
) -> None:
    """A module there is found also when Python was started elsewhere; Python's own come first."""
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    write_module("cli_here.py", "from filtered_websocket.filters.stdout_messages import *\n")
    assert cli.main(["-f", "cli_here"]) == 0
    assert sys.path[-1] == str(tmp_path)


def test_the_storage_module_of_the_environment(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, write_module: WriteModule
) -> None:
    """Its class is used, and its options are known on the command line."""
    write_module(
        "cli_storage.py",
        """
        from filtered_websocket.storage_objects import default

        class StorageObject(default.StorageObject):
            @classmethod
            def parser(cls, parser):
                parser.add_argument("--group_size", type=int)
                return parser
        """,
    )
    monkeypatch.setenv("STORAGE_OBJECT_MODULE", "cli_storage")
    assert cli.main(["-f", "--group_size", "5"]) == 0
    ((options, storage_class),) = started
    assert (options.group_size, storage_class.__module__) == (5, "cli_storage")


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        (["-p", "http"], {}, "argument -p/--port: invalid port value: 'http'"),
        (["chat"], {}, "unknown argument 'chat'; filters are named after -f: "),
        (["-c", "nothing.json"], {}, "nothing.json: No such file or directory"),
        (["-f", "nothing"], {}, "filter module 'nothing' was not found; "),
        (["-f", "broken_cli_filter"], {}, "filter module 'broken_cli_filter' failed on import: "),
        ([], {"FWS_PORT": "http"}, "FWS_PORT: invalid port value: 'http'"),
        ([], {"STORAGE_OBJECT_MODULE": "nothing"}, "storage module 'nothing' (STORAGE_OBJECT_"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str],
    environ: dict[str, str],
    expected: str,
    started: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write_module: WriteModule,
) -> None:
    """Wrong usage is exit code 2, one line on stderr, no traceback, and nothing starts."""
    write_module("broken_cli_filter.py", "1 / 0\n")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"fws_server: {expected}")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert started == []


def test_a_start_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """What the machine refuses is exit code 1."""

    def run(options: Namespace, storage_class: Any, reread: Any) -> int:
        raise StartError("the port is in use")

    monkeypatch.setattr(cli, "run", run)
    assert cli.main(["-f"]) == 1
    assert capsys.readouterr().err == "fws_server: the port is in use\n"


def test_options_can_be_read_again(
    monkeypatch: pytest.MonkeyPatch, write_module: WriteModule, tmp_path: Path
) -> None:
    """What has changed in the config file since the start is seen, what has not stays."""
    file = tmp_path / "config.toml"
    file.write_text("port = 1\n")
    ports = []

    def run(options: Namespace, storage_class: Any, reread: Any) -> int:
        for port in (2, 3):
            file.write_text(f"port = {port}\n")
            ports.append((reread().port, reread().trace))
        return 0

    monkeypatch.setattr(cli, "run", run)
    assert cli.main(["-c", str(file), "-f", "--trace", "5"]) == 0
    assert ports == [(2, 5), (3, 5)]


def test_an_error_of_many_lines_is_told_in_one(
    capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """What an author's exception says stays within the one line."""
    write_module("wordy_filter.py", "raise ValueError('one\\n  two\\n')\n")
    assert cli.main(["-f", "wordy_filter"]) == 2
    assert capsys.readouterr().err.endswith("line 1: ValueError: one two\n")


def test_warnings_do_not_keep_it_from_starting(
    started: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    write_module: WriteModule,
) -> None:
    """A module without filters and a misspelt variable are told of, once each."""
    write_module("cli_without.py", "")
    monkeypatch.setenv("FWS_PROT", "1")
    assert cli.main(["-f", "cli_without"]) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "FWS_PROT is not an option" in caplog.text
    assert "'cli_without' has no filters" in caplog.text
    assert len(started) == 1


def test_the_log_looks_as_it_was_asked_for(
    started: list[Any], capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """Level and format hold from the first line on, also while modules are imported."""
    write_module("cli_logging.py", "import logging\nlogging.info('no'), logging.warning('yes')\n")
    assert cli.main(["-f", "cli_logging", "--log_format", "json", "--log_level", "warning"]) == 0
    first, *_ = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["event"]) == ("warning", "yes")


# Looking, without a start


@pytest.mark.parametrize("option", ["--explain", "--check"])
def test_looking_starts_nothing(
    option: str,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    write_module: WriteModule,
) -> None:
    """`--explain` prints a page, `--check` nothing but warnings; both are a success."""
    write_module("cli_looked_at.py", "from filtered_websocket.filters import base\n")
    assert cli.main([option, "-f", "cli_looked_at"]) == 0
    output = capsys.readouterr()
    assert started == []
    warning = "filter module 'cli_looked_at' has no filters: "
    if option == "--check":
        assert output.out == ""
        assert f"fws_server: warning: {warning}" in output.err
    else:
        assert output.out.startswith("fws_server ")
        assert f"  - {warning}" in output.out
        assert output.err == ""


def test_a_check_that_fails(
    started: list[Any], capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """What a start would be refused for is told, with its exit code."""
    assert cli.main(["--check", "-f", "-key", "k"]) == 1
    error = capsys.readouterr().err
    assert error == "fws_server: -key was given without -cert: TLS needs both\n"


# What must not end in a traceback


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asyncio\nraise asyncio.CancelledError('no')\n", "line 2: CancelledError: no\n"),
        ("class Mute(Exception):\n    def __str__(self): 1 / 0\nraise Mute\n", "line 3: Mute"),
    ],
    ids=["cancelled", "no text"],
)
def test_whatever_a_module_raises_is_told_in_one_line(
    source: str, expected: str, capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """Also what is no Exception, and what cannot even say what it is."""
    write_module("odd_filter.py", source)
    assert cli.main(["-f", "odd_filter"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fws_server: filter module 'odd_filter' failed on import: ")
    assert expected in error
    assert error.count("\n") == 1


def test_a_deleted_current_directory_is_no_obstacle(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_module: WriteModule
) -> None:
    """Modules that are elsewhere are imported, a module without filters is told of as ever."""
    write_module("elsewhere.py", "")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(["-f", "stdout_messages", "elsewhere"]) == 0
    assert len(started) == 1


def test_an_interrupt_while_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], write_module: WriteModule
) -> None:
    """Ctrl-C during the import of a slow module ends it in silence, as the shell expects."""
    write_module("slow_module.py", "raise KeyboardInterrupt")
    code = None
    with suppress(KeyboardInterrupt):  # which would end the tests
        code = cli.main(["-f", "slow_module"])
    assert code == 130
    assert capsys.readouterr().err == ""
