"""The plugin for pytest, as it works in a project of a user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent


def test_the_fixtures_make_what_they_close(tmp_path: Path) -> None:
    """A test file that imports nothing of ours runs both; all are closed when a test ends."""
    (tmp_path / "test_chat.py").write_text(
        dedent(
            """
            import threading

            made = []

            def test_chat(fws_pipeline):
                chat(fws_pipeline)

            def test_chat_over_sockets(fws_server):
                chat(fws_server)

            def chat(make):
                run = make("broadcast_messages", rate=5)
                make("broadcast_messages")
                alice, bob = run.connect(), run.connect()
                made.append(alice)
                alice.send("hi")
                assert bob.received == ["hi"]

            def test_after_them():
                assert [client.close_code for client in made] == [1001, 1001]
                assert threading.active_count() == 1
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
    assert "3 passed" in result.stdout, result.stdout


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
