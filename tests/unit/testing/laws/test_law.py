"""The laws, and what is told of those who break them."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtered_websocket.testing.laws.law import LAWS, LawBroken, place, place_of_error


def test_the_story_is_in_the_message() -> None:
    """Module and law first, then one sentence in each line; both can be asked for."""
    error = LawBroken("shout", "time", ["alice connected", "alice sent 'a'"])
    assert str(error) == (
        f"shout breaks the law \"time\" ({LAWS['time']}):\n  alice connected\n  alice sent 'a'"
    )
    assert (error.law, error.story) == ("time", ("alice connected", "alice sent 'a'"))
    assert isinstance(error, AssertionError)


def test_a_place_is_named_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its source, where that can be read."""
    (tmp_path / "shout.py").write_text("1\n  22\n")
    assert place(str(tmp_path / "shout.py"), 2) == f"{tmp_path}/shout.py:2: 22"
    monkeypatch.chdir(tmp_path)
    assert place(str(tmp_path / "shout.py"), 2) == "shout.py:2: 22"
    assert place(str(tmp_path / "gone.py"), 2) == "gone.py:2"


def test_the_place_of_an_error_is_the_last_one_of_the_author() -> None:
    """What Python itself raised within a call is told of the line that has called it."""
    try:
        int.from_bytes(Path("/no/such/file").read_bytes())
    except OSError as error:
        found = place_of_error(error.__traceback__, set())
    assert found is not None
    assert found[0] == __name__
    assert found[1].endswith(': int.from_bytes(Path("/no/such/file").read_bytes())')
    assert place_of_error(None, set()) is None
