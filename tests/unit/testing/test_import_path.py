"""Where runs find modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from filtered_websocket.testing import import_path
from filtered_websocket.testing.import_path import note_folder, with_own_folders


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Let the current directory be an empty one; return a path without it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_path, "_folder_of_test", "")
    monkeypatch.setattr(sys, "path", ["a", "b"])
    return sys.path


def test_the_current_directory_comes_last(path: list[str], tmp_path: Path) -> None:
    """As for `fws_server`; where it is already, it stays."""
    with with_own_folders():
        assert path == ["a", "b", str(tmp_path)]
        with with_own_folders():
            assert path == ["a", "b", str(tmp_path)]
    assert path == ["a", "b"]


def test_the_folder_of_the_test_comes_first(path: list[str], tmp_path: Path) -> None:
    """Where pytest has put it on the path, and only there."""
    note_folder("b")
    with with_own_folders():
        assert path == ["b", "a", "b", str(tmp_path)]
    assert path == ["a", "b"]
    note_folder("c")
    with with_own_folders():
        assert path == ["a", "b", str(tmp_path)]


def test_runs_may_end_in_any_order(path: list[str]) -> None:
    """Also when a test has changed the path itself."""
    note_folder("b")
    one, two = with_own_folders(), with_own_folders()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    path.clear()
    two.__exit__(None, None, None)
    assert path == []
