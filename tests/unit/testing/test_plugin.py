"""The plugin for pytest, as it works in a project of a user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent


def test_the_fixture_makes_pipelines_and_closes_them(tmp_path: Path) -> None:
    """A test file that imports nothing of ours runs pipelines; all are closed when a test ends."""
    (tmp_path / "test_chat.py").write_text(
        dedent(
            """
            made = []

            def test_chat(fws_pipeline):
                pipeline = fws_pipeline("broadcast_messages", rate=5)
                made.append(fws_pipeline("broadcast_messages"))
                alice, bob = pipeline.connect(), pipeline.connect()
                made.append(alice)
                alice.send("hi")
                assert bob.received == ["hi"]

            def test_after_it():
                assert made[1].close_code == 1001
            """
        )
    )
    plugin = ("-p", "filtered_websocket", "-p", "no:cacheprovider")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-q", "-W", "error", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in result.stdout, result.stdout


def test_the_test_of_the_manual_passes() -> None:
    """The example beside the filter that it tests runs as it says."""
    plugin = ("-p", "filtered_websocket", "-p", "no:cacheprovider")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-q", "test_no_shouting.py"],
        cwd=Path(__file__).parents[3] / "examples",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 passed" in result.stdout, result.stdout
