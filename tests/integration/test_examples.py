"""The folders of examples: what all have in common, and the one that needs no page."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

import pytest
from websockets.sync.client import ClientConnection, connect

from ..example_folder import EXAMPLES, FOLDERS, ExampleFolder

Copy = Callable[..., ExampleFolder]

LONGEST_FILTER = 40  # lines: what is copied is also to be read


@pytest.mark.slow
def test_the_order_of_moderation_matters(example_folder: Copy) -> None:
    """Each of the two commands does what its column of the table says."""
    example = example_folder("moderation")
    limit_first, words_first = after_seven_and_sorry(example, 0), after_seven_and_sorry(example, 1)
    assert limit_first == (
        ["mind your language"] * 5 + ["slow down: five messages in ten seconds"],
        [],
    )
    assert words_first == (["mind your language"] * 7, ["sorry"])
    assert "| `mind your language` five times, then `slow down: …` | `mind your" in example.readme


def after_seven_and_sorry(example: ExampleFolder, command: int) -> tuple[list[str], list[str]]:
    """Return what the sender was told, and what the others got."""
    example.serve(command)
    url = f"ws://localhost:{example.port}/"
    with connect(url) as sender, connect(url) as other:
        for message in ["heck"] * 7 + ["sorry"]:
            sender.send(message)
        sender.ping().wait(5)  # till all of it was handled
        other.send("that was all")
        told = received_until(sender, "that was all")
        with connect(url) as last:
            last.send("that was all")
            got = received_until(other, "that was all")
    example.stop()
    return told, got


def received_until(client: ClientConnection, last: str) -> list[str]:
    received: list[str] = []
    while (message := client.recv(timeout=5)) != last:
        received.append(str(message))
    return received


@pytest.mark.parametrize("name", FOLDERS)
def test_a_command_is_on_top(name: str) -> None:
    """A README begins with its title and one command; then it says where to run it."""
    readme = (EXAMPLES / name / "README.md").read_text()
    title, command, text = readme.split("```", 2)
    assert title.startswith("# ") and title.count("\n") == 2
    assert command.startswith("sh\n") and "fws_server" in command
    assert text.startswith("\n\nRun it in this folder")


@pytest.mark.parametrize("name", FOLDERS)
def test_each_file_is_explained(name: str) -> None:
    """The README links each module of its folder, and none that is not there."""
    folder = EXAMPLES / name
    linked = re.findall(r"\[`(\w+\.py)`\]\(\1\)", (folder / "README.md").read_text())
    assert sorted(linked) == sorted(path.name for path in folder.glob("*.py"))


@pytest.mark.parametrize("name", FOLDERS)
def test_filters_are_short_and_tested(name: str) -> None:
    """A module of filters has at most 40 lines, a docstring, and a test in its folder."""
    folder = EXAMPLES / name
    tests = "".join(path.read_text() for path in folder.glob("test_*.py"))
    filters = [path for path in folder.glob("*.py") if "Filter)" in path.read_text()]
    assert filters
    for path in filters:
        source = path.read_text()
        assert source.count("\n") <= LONGEST_FILTER, path
        assert ast.get_docstring(ast.parse(source)), path
        assert f'"{path.stem}"' in tests, path


def test_the_manual_has_a_row_for_each_folder() -> None:
    """Whoever looks for an example finds it in the manual."""
    manual = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    assert sorted(re.findall(r"^\| `examples/(\w+)` \|", manual, re.MULTILINE)) == FOLDERS
