"""What a start would start, as a page of text."""

from __future__ import annotations

import importlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket import __version__
from filtered_websocket.config import Resolved
from filtered_websocket.filters.base import FilterBase, WebSocketMessageFilter
from filtered_websocket.operation.explain import chain_name, explain, place_of, shown
from filtered_websocket.storage_objects.default import StorageObject

from ..conftest import WriteModule, add

pytestmark = pytest.mark.usefixtures("empty_chains")


def page(
    warnings: tuple[str, ...] = (),
    environ: dict[str, str] | None = None,
    **options: tuple[Any, str],
) -> str:
    """Return the page for options that are named with value and source."""
    options = options or {"port": (9000, "default")}
    resolved = Resolved(
        Namespace(**{name: value for name, (value, _) in options.items()}),
        {name: source for name, (_, source) in options.items()},
        list(warnings),
    )
    return explain(resolved, StorageObject(Namespace()), environ or {})


def section(title: str, text: str) -> list[str]:
    """Return the lines below the one that begins with a title."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(title))
    lines = [*lines[start + 1 :], ""]
    return lines[: lines.index("")]


def test_it_says_of_what_version() -> None:
    """A page that is sent to somebody tells them what it is from."""
    assert page().splitlines()[0] == f"fws_server {__version__}"


def test_chains_stand_in_the_order_of_events() -> None:
    """Those of the server come first, in the order of a connection's life."""
    names = [line.partition(":")[0] for line in page().splitlines()[2:8]]
    assert names == ["data", "handshake", "connect", "message", "disconnect", "consumer"]


def test_filters_stand_with_their_place(write_module: WriteModule) -> None:
    """Each has class, number, kind, and file and line as seen from the current directory."""
    write_module(
        "explained.py",
        """
        from filtered_websocket.filters.base import WebSocketMessageFilter


        class First(WebSocketMessageFilter):
            @classmethod
            def filter(cls, web_socket_instance, msg):
                pass


        class Second(WebSocketMessageFilter):
            @staticmethod
            async def filter(web_socket_instance, msg):
                pass
        """,
    )
    importlib.import_module("explained")
    lines = page().splitlines()
    start = lines.index("message:")
    assert lines[start + 1 : start + 6] == [
        "  1. explained.First",
        "     sync   explained.py:5",
        "  2. explained.Second",
        "     async  explained.py:11",
        "disconnect: no filter",
    ]


def test_a_chain_of_ones_own_has_its_place(write_module: WriteModule) -> None:
    """It stands behind those of the server, by the name of its class."""
    write_module(
        "explained_chain.py",
        """
        from filtered_websocket.filters.base import FilterBase

        class Greeting(FilterBase):
            pass
        """,
    )
    importlib.import_module("explained_chain")
    assert "Greeting (explained_chain.py:4): no filter" in page().splitlines()


def test_a_class_without_source_has_its_module() -> None:
    """One that was made by a call has no line."""
    made = type("Made", (), {"__module__": "elsewhere"})
    assert place_of(made) == "module elsewhere"


def test_a_place_in_a_directory_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a current directory the whole path is shown."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert place_of(StorageObject).startswith("/")


def test_names_of_chains() -> None:
    """Those of the server are shortened, others are not."""
    own = Namespace(__name__="WebSockets")
    assert chain_name(WebSocketMessageFilter) == "message"
    assert chain_name(own) == "WebSockets"  # type: ignore[arg-type]
    assert chain_name(FilterBase) == "FilterBase"


def test_storage() -> None:
    """The class of the storage object has its place too."""
    name, place = section("storage:", page())
    assert name == "  filtered_websocket.storage_objects.default.StorageObject"
    assert place.endswith(f"storage_objects/default.py:{place.rpartition(':')[2]}")


def test_options_stand_with_their_source() -> None:
    """Those that were set come first, in columns."""
    text = page(
        port=(1, "command line"),
        filters=(["a", "b"], "config.json: filters"),
        host=(None, "default"),
        no_console=(True, "FWS_NO_CONSOLE"),
        rate=(0.0, "default"),
    )
    assert section("options that were set:", text) == [
        "  --port        command line          1",
        "  --filters     config.json: filters  a b",
        "  --no_console  FWS_NO_CONSOLE        yes",
    ]
    assert section("options at their default:", text) == [
        "  --host        -",
        "  --rate        0.0",
    ]


def test_what_asks_for_the_page_is_not_on_it() -> None:
    """It says nothing of what a start does."""
    text = page(explain=(True, "command line"), check=(True, "command line"), port=(1, "default"))
    assert "options that were set: none" in text
    assert "--explain" not in text and "--check" not in text


def test_an_empty_value_is_shown() -> None:
    """What was set to nothing is told from what is not there only by its source."""
    assert section("options that were set:", page(redis_key=("", "command line"))) == [
        "  --redis_key  command line  -"
    ]


def test_long_values_go_on_below() -> None:
    """A list of many filters stays within 80 columns."""
    text = page(filters=([f"some_filter_{n}" for n in range(20)], "command line"))
    lines = section("options that were set:", text)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert "".join(lines).split()[3:] == [f"some_filter_{n}" for n in range(20)]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("redis_url", "redis://me:pass@db.example:1/0", "redis://me:***@db.example:1/0"),
        ("redis_url", "redis://:pa/s@s@db.example/0", "redis://:***@db.example/0"),
        ("redis_url", "redis://db.example?password=a&x=1", "redis://db.example?password=***&x=1"),
        ("redis_url", "redis://db.example:6379/0", "redis://db.example:6379/0"),
        ("urls", ["a://b:c@d", "e://f:g@h"], "a://b:***@d e://f:***@h"),
        ("db_password", "x", "***"),
        ("client_secret", 5, "***"),
        ("db_password", None, "-"),
        ("origins", ["https://chat.example", "*"], "https://chat.example *"),
        ("patterns", [], "-"),
        ("flag", False, "no"),
        ("text", "", ""),
        ("key", "key.pem", "key.pem"),
    ],
)
def test_values(name: str, value: object, text: str) -> None:
    """They are shown as they are written, without passwords."""
    assert shown(name, value) == text


def test_secrets_of_the_environment_are_there_and_masked() -> None:
    """That there is a password can explain something; an empty one counts as not set."""
    environ = {"FWS_REDIS_PASSWORD": "hidden", "FWS_KEY_PASSWORD": "", "OTHER": "hidden"}
    text = page(environ=environ)
    assert section("options that were set:", text) == ["  FWS_REDIS_PASSWORD  environment  ***"]
    assert "hidden" not in text


def test_warnings_are_a_list() -> None:
    """Each begins a line, and goes on below where it is long."""
    lines = section("warnings:", page(warnings=("first", "word " * 30)))
    assert lines[0] == "  - first"
    assert lines[1].startswith("  - word") and lines[2].startswith("    word")
    assert max(map(len, lines)) <= 80
    assert "warnings: none" in page()


def test_a_filter_that_is_added_by_a_call_is_shown() -> None:
    """A class without a place of its own stands in its chain all the same."""
    add(WebSocketMessageFilter, lambda connection, msg: None)
    assert f"  1. {__name__}.Added" in page()
