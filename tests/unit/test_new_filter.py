"""The first version of a filter, and what keeps it from being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtered_websocket import cli
from filtered_websocket.new_filter import NewFilterError, write_filter
from filtered_websocket.testing import Pipeline, check_filter

from .conftest import WriteModule


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_filter_works_and_keeps_the_laws(tmp_path: Path, write_module: WriteModule) -> None:
    """What is written does what its test expects, whatever clients send."""
    write_filter("my_filter", tmp_path)
    with Pipeline("my_filter", "broadcast_messages") as pipeline:
        alice, bob = pipeline.connect(), pipeline.connect()
        alice.send("hello")
        assert bob.received == ["HELLO"]
        assert hasattr(pipeline.module("my_filter"), "MyFilter")
    check_filter("my_filter", examples=10)


@pytest.mark.parametrize(
    ("name", "class_name"),
    [("shout", "ShoutFilter"), ("rate_limit", "RateLimitFilter"), ("myFilter", "MyFilter")],
)
def test_the_class_has_the_name_of_the_module(name: str, class_name: str, tmp_path: Path) -> None:
    """Written as classes are, and with Filter at its end once."""
    write_filter(name, tmp_path)
    assert f"class {class_name}(" in (tmp_path / f"{name}.py").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my-filter", "no name for a module.*; how about my_filter?"),
        ("my_filter.py", "; how about my_filter?"),
        ("../up", "; how about up?"),
        ("2nd", "no name for a module: .* a letter first$"),
        ("", "'' is no name"),
        ("class", "; how about class_filter?"),
        ("test_it", "pytest would take test_it.py for its own; how about it_filter?"),
        ("load_test", "pytest would take load_test.py for its own; how about load_filter?"),
        ("conftest", "pytest would take conftest.py for its own$"),
        ("test_", "pytest would take test_.py for its own$"),
        (300 * "a", "File name too long"),
        ("json", "Python has a module 'json'.*json_filter"),
        ("pytest", r"installed module 'pytest', which would win .*my_pytest"),
        ("broadcast_messages", "comes with the server; how about my_broadcast_messages"),
    ],
)
def test_a_name_that_no_filter_can_have(name: str, reason: str, tmp_path: Path) -> None:
    """The reason is told, with a better name where there is one, and nothing is written."""
    with pytest.raises(NewFilterError, match=reason):
        write_filter(name, tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("there", ["shout.py", "test_shout.py", "shout/__init__.py"])
def test_nothing_is_overwritten(there: str, tmp_path: Path) -> None:
    """When one of the files is there, neither is written, and it stays what it was."""
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    before = files(tmp_path)
    with pytest.raises(NewFilterError, match=f"{before[0]}.* is there already: nothing"):
        write_filter("shout", tmp_path)
    assert files(tmp_path) == before
    assert (tmp_path / there).read_text() == "mine"


def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    """What the system says is told, with the file."""
    with pytest.raises(NewFilterError, match="gone.*: No such file or directory"):
        write_filter("shout", tmp_path / "gone")


def test_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, write_module: WriteModule
) -> None:
    """It writes into the current directory and says what to do next; again, it is wrong usage."""
    assert cli.main(["--new_filter", "shout"]) == 0
    assert files(tmp_path) == ["shout.py", "test_shout.py"]
    done, *following = capsys.readouterr().out.splitlines()
    assert done == "shout.py and test_shout.py are written."
    assert [line.partition(":")[0] for line in following] == ["Run it", "Test it", "Change it"]
    assert cli.main(["--new_filter", "shout"]) == 2
    assert capsys.readouterr().err == (
        "fws_server: shout.py and test_shout.py are there already: nothing was written\n"
    )


def test_a_current_directory_that_is_gone(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    empty_chains: None,
) -> None:
    """It is an error in one line, as any other."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert cli.main(["--new_filter", "shout"]) == 2
    assert capsys.readouterr().err == "fws_server: shout.py: No such file or directory\n"
