"""`--explain` and `--check`: what a command line would start, and what is wrong with it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from ..process import ServerProcess
from .wire import local_tls, save_filters

Start = Callable[..., ServerProcess]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REDIS = "filtered_websocket.storage_objects.redis"
# Where no Redis is: what asked one would fail.
NO_REDIS = {"STORAGE_OBJECT_MODULE": REDIS, "FWS_REDIS_URL": "redis://me:hidden@127.0.0.1:1/0"}

Look = Callable[..., tuple[int, str, str]]


@pytest.fixture
def look(start_server: Start, tmp_path: Path) -> Look:
    """Return a function that runs `fws_server` among the examples to its end."""
    for path in EXAMPLES.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)

    def look(*arguments: str, **environ: str) -> tuple[int, str, str]:
        server = start_server(*arguments, port=None, environ=environ)
        code = server.wait()
        return code, server.stdout, server.stderr

    return look


def section(title: str, page: str) -> list[list[str]]:
    """Return the words of the lines below a title."""
    _, _, rest = page.partition(f"\n{title}:\n")
    return [line.split() for line in rest.partition("\n\n")[0].splitlines()]


# --explain


def test_the_example_of_the_readme(look: Look) -> None:
    """Chains, filters, places, storage and options are on one page of at most 80 columns."""
    code, page, stderr = look(
        "--explain", "-p", "9001", "-f", "auth", "shout", "broadcast_messages"
    )
    assert (code, stderr) == (0, "")
    bundled = "filtered_websocket.filters.broadcast_messages"
    place = re.escape(os.path.join("src", *bundled.split("."))) + r"\.py:\d+"
    assert re.search(
        r"data: no filter\n"
        r"handshake:\n  1\. auth\.AuthFilter\n     sync   auth\.py:8\n"
        r"connect: no filter\n"
        r"message:\n  1\. shout\.ShoutFilter\n     sync   shout\.py:6\n"
        rf"  2\. {bundled}\.BroadcastMessagesFilter\n     sync   \S*{place}\n"
        r"disconnect: no filter\n"
        r"consumer: no filter\n",
        page,
    )
    assert section("storage", page)[0] == [
        "filtered_websocket.storage_objects.default.StorageObject"
    ]
    assert section("options that were set", page) == [
        ["--port", "command", "line", "9001"],
        ["--filters", "command", "line", "auth", "shout", "broadcast_messages"],
    ]
    assert ["--log_level", "info"] in section("options at their default", page)
    assert page.endswith("\nwarnings: none\n")
    assert [line for line in page.splitlines() if len(line) > 80 and "/" not in line] == []


def test_each_value_has_its_source(look: Look) -> None:
    """Command line, variables and file are named; what is secret is not shown."""
    code, page, stderr = look(
        *("--explain", "-c", "config.json", "--redis_key", "mine"),
        **NO_REDIS,
        FWS_FILTERS="popchar,broadcast_messages",
        FWS_REDIS_PASSWORD="hidden",
    )
    assert (code, stderr) == (0, "")
    assert section("options that were set", page) == [
        ["--port", "config.json:", "port", "9000"],
        ["--config", "command", "line", "config.json"],
        ["--filters", "FWS_FILTERS", "popchar", "broadcast_messages"],
        ["--no_console", "config.json:", "no_console", "yes"],
        ["--redis_url", "FWS_REDIS_URL", "redis://me:***@127.0.0.1:1/0"],
        ["--redis_key", "command", "line", "mine"],
        ["FWS_REDIS_PASSWORD", "environment", "***"],
    ]
    assert "hidden" not in page


def test_nothing_is_listened_on(look: Look, tmp_path: Path) -> None:
    """A port in use is no hindrance, and no Unix socket appears."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, page, _ = look("--explain", "-p", str(taken.getsockname()[1]))
        assert code == 0
    assert "broadcast_messages" in page
    code, _, _ = look("--explain", "--unix_socket", "fws.sock")
    assert code == 0
    assert not (tmp_path / "fws.sock").exists()


def test_async_filters_and_own_chains(look: Look, tmp_path: Path) -> None:
    """An async filter is told from others, a chain of one's own has its place."""
    save_filters(tmp_path, "greet", GREETING)
    _, page, _ = look("--explain", "-f", "slow", "greet")
    assert "  1. slow.SlowFilter\n     async  slow.py:8\n" in page
    assert "\nGreeting (greet.py:3):\n  1. greet.Hello\n     sync   greet.py:5\n" in page


GREETING = """\
class Greeting(FilterBase):
    pass
class Hello(Greeting):
    @staticmethod
    def filter(web_socket_instance, data):
        print(data)
"""


# --check


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        # README and docs/filters
        ([], {}),
        (["-f", "shout", "broadcast_messages"], {}),
        (["-p", "9001", "-f", "auth", "shout", "broadcast_messages"], {}),
        (["-f", "popchar", "stdout_messages"], {}),
        (["-f", "stdout_messages", "popchar"], {}),
        (["-f", "auth", "broadcast_messages", "stdout_messages"], {}),
        (["-c", "config.json"], {}),
        (["-c", "config.toml"], {}),
        # docs/filters
        (["-f", "broadcast"], {}),
        (["-f", "hi_morgan"], {}),
        (["-f", "no_shouting", "broadcast_messages"], {}),
        (["-f", "slow", "broadcast_messages"], {}),
        (["-f", "broadcast_messages_by_token"], {}),
        (["-f", "stdout_rawdata", "broadcast_messages_by_token", "stdout_messages"], {}),
        (["-f", "auth", "broadcast_messages_by_token"], {}),
        # docs/behind-a-proxy, docs/limits, docs/configuration
        (["--trusted_proxies", "127.0.0.1", "--origins", "https://chat.example"], {}),
        (["--trusted_proxies", "10.0.0.0/8", "2001:db8:5::/48"], {}),
        (["--unix_socket", "/run/fws.sock", "--trusted_proxies", "unix"], {}),
        (["--host", "*", "--max_connections", "10000", "--compression", "deflate"], {}),
        # docs/storage and docs/redis
        ([], {"STORAGE_OBJECT_MODULE": "my_storage"}),
        (["-f", "broadcast_messages_by_token"], {"STORAGE_OBJECT_MODULE": "my_storage"}),
        (["-f", "broadcast_messages", "broadcast_pubsub"], NO_REDIS),
        (["-f", "broadcast_pubsub"], NO_REDIS),
        (["-f", "broadcast_pubsub", "stdout_pubsub"], NO_REDIS),
        (["-f", "broadcast_messages_by_token", "broadcast_pubsub", "stdout_pubsub"], NO_REDIS),
        (["--redis_required"], NO_REDIS),
    ],
)
def test_documented_command_lines_are_right(
    look: Look, arguments: list[str], environ: dict[str, str]
) -> None:
    """What the manual shows has no error and gives no warning."""
    assert look("--check", *arguments, **environ) == (0, "", "")


def python_blocks() -> list[object]:
    """Return the filters of the README and the manual, block by block; others are scripts."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    fence = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(code, id=f"{page.name}-{number}")
        for page in pages
        for number, code in enumerate(fence.findall(page.read_text()), start=1)
        if re.search(r"^class \w+\(.*Filter\)", code, re.MULTILINE)
    ]


@pytest.mark.parametrize("code", python_blocks())
def test_filters_of_the_manual_are_right(look: Look, tmp_path: Path, code: str) -> None:
    """Each block of code is a module that gives no warning before a broadcast."""
    (tmp_path / "copied.py").write_text(code)
    status, _, stderr = look("--check", "-f", "copied", "broadcast_messages")
    assert (status, stderr) == (0, "")


def test_every_example_in_one_pipeline_is_right(look: Look) -> None:
    """They do not disturb one another, and neither do all that are bundled with them."""
    names = sorted(path.stem for path in EXAMPLES.glob("*.py"))
    for other in ("my_storage", "test_no_shouting", "broadcast"):
        names.remove(other)
    names += ["broadcast", "broadcast_messages_by_token", "stdout_messages", "stdout_rawdata"]
    assert look("--check", "-f", *names) == (0, "", "")


BROKEN = "class Broken(WebSocketMessageFilter):\n    def filter(self, connection, msg): pass\n"
ASYNC_DATA = "class Late(WebSocketDataFilter):\n    async def filter(connection, data): pass\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "message"),
    [
        (["-f", "nothing_like_it"], {}, 2, "filter module 'nothing_like_it' was not found"),
        (["-f", "broken"], {}, 2, "put @classmethod or @staticmethod above"),
        (["-f", "async_data"], {}, 2, "a WebSocketDataFilter cannot be async"),
        (["-f", "raises"], {}, 2, "raises.py, line 3: ZeroDivisionError"),
        (["--prot", "1"], {}, 2, "unknown argument '--prot'; did you mean '--port'?"),
        (["-p", "http"], {}, 2, "invalid port value: 'http'"),
        (["-c", "gone.json"], {}, 2, "gone.json: No such file"),
        ([], {"FWS_PORT": "many"}, 2, "FWS_PORT: invalid port value: 'many'"),
        ([], {"STORAGE_OBJECT_MODULE": "gone"}, 2, "storage module 'gone' (STORAGE_OBJECT_MODULE)"),
        (["--trusted_proxies", "10.1.2.3/8"], {}, 2, "'10.1.2.3/8' is no network"),
        (["-p", "9100", "--metrics_port", "9100"], {}, 1, "--metrics_port 9100 is the port of the"),
        (["-key", "key.pem"], {}, 1, "-key was given without -cert: TLS needs both"),
        (["-key", "key.pem", "-cert", "gone.pem"], {}, 1, "-cert gone.pem: No such file"),
        (["-key", "key.pem", "-cert", "other.pem"], {}, 1, "is not the key of -cert other.pem"),
        (["--origins", "chat.example"], {}, 1, "--origins: 'chat.example' is not an origin"),
        (["--host", "*", "--unix_socket", "s"], {}, 1, "--host * was given with --unix_socket"),
        (["--host", "no.such.host.invalid"], {}, 1, "cannot listen on --host no.such.host.invalid"),
        (["--redis_sentinel", "here"], NO_REDIS, 1, "--redis_sentinel: 'here' is not HOST:PORT"),
        ([], NO_REDIS | {"FWS_REDIS_URL": "x"}, 1, "--redis_url is not valid"),
        ([], {"STORAGE_OBJECT_MODULE": "failing"}, 1, "failing.StorageObject failed: OSError: no"),
    ],
)
def test_errors_are_those_of_a_start(
    look: Look,
    tmp_path: Path,
    arguments: list[str],
    environ: dict[str, str],
    code: int,
    message: str,
) -> None:
    """What can be found without listening is told in the same line, with the same exit code."""
    save_filters(tmp_path, "broken", BROKEN)
    save_filters(tmp_path, "async_data", ASYNC_DATA)
    save_filters(tmp_path, "raises", "1 / 0\n")
    save_filters(tmp_path, "failing", FAILING)
    for name in ("key.pem", "other.pem"):
        pair = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem
        pair.write_to_path(tmp_path / name)
    checked = look("--check", *arguments, **environ)
    assert checked[:2] == (code, "")
    assert message in checked[2]
    assert checked[2].startswith("fws_server: ") and checked[2].count("\n") == 1
    assert look(*arguments, **environ) == checked


def test_errors_come_instead_of_the_page(look: Look) -> None:
    """`--explain` of what cannot start prints what is wrong with it, and no page."""
    code, page, stderr = look("--explain", "-key", "key.pem")
    assert (code, page) == (1, "")
    assert stderr == "fws_server: -key was given without -cert: TLS needs both\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_disk(tmp_path: Path, stream: str) -> None:
    """A page that cannot be printed is an error in one line; warnings that cannot be, are none."""
    command = [sys.executable, "-m", "filtered_websocket", "-f"]
    with open("/dev/full", "w") as full:
        if stream == "stdout":
            end = subprocess.run(
                [*command, "--explain"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE
            )
            line = b"fws_server: cannot print what would start: No space left on device\n"
            assert (end.returncode, end.stderr) == (1, line)
        else:
            end = subprocess.run([*command, "--check"], cwd=tmp_path, stderr=full)
            assert end.returncode == 0


FAILING = """\
class StorageObject:
    def __init__(self, options):
        raise OSError("no")
"""


def test_a_certificate_that_is_right(look: Look, tmp_path: Path) -> None:
    """A pair that loads is no error."""
    options, _ = local_tls(tmp_path)
    assert look("--check", *options) == (0, "", "")


BARE_STORAGE = """\
class StorageObject:
    def __init__(self, options): pass
    def add(self, key, value): pass
"""
PUTS = """\
class Puts(WebSocketMessageFilter):
    @staticmethod
    def filter(web_socket_instance, msg):
        web_socket_instance.queue.put(bytes(msg))
"""
MISSPELT = "class Odd(WebSocketMessageFilter):\n    def filtr(connection, msg): pass\n"
BUNDLED = "filtered_websocket.filters"
SENT = f"{BUNDLED}.broadcast_messages.BroadcastMessagesFilter"


@pytest.mark.parametrize(
    ("arguments", "environ", "warnings"),
    [
        (
            ["-f", "broadcast_messages", "shout", "stdout_messages"],
            {},
            [
                f"shout.ShoutFilter changes the message, but {SENT} has sent it as it was: "
                f"name shout before {BUNDLED}.broadcast_messages"
            ],
        ),
        (
            ["-f", "broadcast_messages", "popchar"],
            {},
            [
                f"popchar.PopCharFilter changes the message, but {SENT} has sent it as it was: "
                f"name popchar before {BUNDLED}.broadcast_messages"
            ],
        ),
        (
            ["-f", "broadcast", "no_shouting"],
            {},
            [
                "no_shouting.NoShoutingFilter drops messages, but broadcast.ChatFilter has sent "
                "them: name no_shouting before broadcast"
            ],
        ),
        (
            ["-f"],
            {},
            [
                "no filter gets messages, so what clients send goes nowhere: name one after -f, "
                "such as broadcast_messages"
            ],
        ),
        (
            ["-f", "broadcast_messages", "broadcast_pubsub"],
            {},
            [
                "nothing puts items on the queue, so "
                f"{BUNDLED}.broadcast_pubsub.BroadcastPubSubFilter never runs: set "
                f"STORAGE_OBJECT_MODULE={REDIS}, or call web_socket_instance.queue.put(item) in a "
                "filter"
            ],
        ),
        (["-f", "puts", "broadcast_pubsub"], {}, []),
        (
            ["-f", "broadcast_messages", "greet"],
            {},
            [
                "nothing runs the chain greet.Greeting: call "
                "Greeting.run(web_socket_instance, data) in a filter"
            ],
        ),
        (
            ["-f", "broadcast_messages", "odd"],
            {},
            ["odd.Odd has no method `filter` and does nothing: is it misspelt?"],
        ),
        (
            ["-f", "broadcast_messages", "json"],
            {"FWS_PROT": "1"},
            [
                "FWS_PROT is not an option; did you mean 'FWS_PORT'?",
                "filter module 'json' has no filters: it needs a class that inherits from one of "
                "those in filtered_websocket.filters.base",
            ],
        ),
        (
            ["-f", "broadcast_messages_by_token"],
            {"STORAGE_OBJECT_MODULE": "bare_storage"},
            [
                f"{BUNDLED}.broadcast_messages_by_token needs get, remove of the storage, which "
                "bare_storage.StorageObject has not: add it there (BaseStorageObject says what it "
                "does), or set STORAGE_OBJECT_MODULE to another module"
            ],
        ),
        (["-f", "broadcast_messages"], {"STORAGE_OBJECT_MODULE": "bare_storage"}, []),
    ],
)
def test_warnings(
    look: Look, tmp_path: Path, arguments: list[str], environ: dict[str, str], warnings: list[str]
) -> None:
    """What is probably a mistake is told with advice: on stderr, or on the page; no error."""
    save_filters(tmp_path, "greet", GREETING)
    save_filters(tmp_path, "puts", PUTS)
    save_filters(tmp_path, "odd", MISSPELT)
    (tmp_path / "bare_storage.py").write_text(BARE_STORAGE)
    code, stdout, stderr = look("--check", *arguments, **environ)
    assert (code, stdout) == (0, "")
    assert stderr.splitlines() == [f"fws_server: warning: {warning}" for warning in warnings]
    code, page, stderr = look("--explain", *arguments, **environ)
    assert (code, stderr) == (0, "")
    on_page = " ".join(" ".join(words) for words in section("warnings", page))
    assert on_page == " ".join(f"- {warning}" for warning in warnings)


def test_a_storage_without_get_still_starts(start_server: Start, tmp_path: Path) -> None:
    """Only what uses groups needs `get`."""
    (tmp_path / "bare_storage.py").write_text(BARE_STORAGE)
    server = start_server(environ={"STORAGE_OBJECT_MODULE": "bare_storage"})
    assert server.port
    assert server.stop() == 0
