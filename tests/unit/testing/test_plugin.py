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


def test_each_test_has_the_filter_beside_it_or_in_the_current_directory(tmp_path: Path) -> None:
    """Also where two folders have one of the same name, or the tests a folder of their own."""
    for project in ("one", "two", "."):
        folder = tmp_path / project
        folder.mkdir(exist_ok=True)
        name = "auth" if project != "." else "here"
        (folder / f"{name}.py").write_text(
            dedent(
                f"""
                from filtered_websocket.filters.base import WebSocketMessageFilter

                class AnswerFilter(WebSocketMessageFilter):
                    @classmethod
                    def filter(cls, web_socket_instance, msg):
                        web_socket_instance.sendMessage({project!r})
                """
            )
        )
        tests = folder if project != "." else folder / "tests"
        tests.mkdir(exist_ok=True)
        (tests / f"test_of_{name}_{project.strip('.')}.py").write_text(
            dedent(
                f"""
                from filtered_websocket.testing import Pipeline

                def test_with_the_fixture(fws_pipeline):
                    ask(fws_pipeline({name!r}))

                def test_without_it():
                    with Pipeline({name!r}) as pipeline:
                        ask(pipeline)

                def ask(pipeline):
                    client = pipeline.connect()
                    client.send("who are you?")
                    assert client.received == [{project!r}]
                """
            )
        )
    plugin = ("-p", "filtered_websocket", "-p", "no:cacheprovider")
    script = f"import sys, pytest; sys.path.remove(''); sys.exit(pytest.main({[*plugin, '-q']}))"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert "6 passed" in result.stdout, result.stdout


def test_the_plugin_costs_little_where_nobody_uses_it() -> None:
    """It imports neither the server nor the event loop before a test asks for a fixture."""
    script = (
        "import sys, filtered_websocket.testing.plugin\n"
        "print([name for name in ('asyncio', 'filtered_websocket.server', 'hypothesis')"
        " if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "[]\n"


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
