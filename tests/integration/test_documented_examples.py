"""The examples of the documentation, run as a user runs them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until

Start = Callable[..., ServerProcess]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(tmp_path: Path) -> Callable[..., None]:
    """Return a function that puts files of `examples/` where the server is started."""

    def put(*names: str) -> None:
        for name in names:
            shutil.copy(EXAMPLES / name, tmp_path)

    return put


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# The command


def test_without_arguments_messages_are_broadcast_and_printed(start_server: Start) -> None:
    """A's message reaches B and not A, and is printed with A's id."""
    server = start_server()
    with connect(server.url) as a, connect(server.url) as b:
        a.send("hello")
        assert b.recv(timeout=5) == "hello"
        b.send("done")
        assert a.recv(timeout=5) == "done"
    wait_until(lambda: server.stdout.count("--MESSAGE--\n") == 2, "two printed messages")
    assert " => hello\n" in server.stdout


def test_default_port_is_9000(start_server: Start) -> None:
    """Without -p the server listens on port 9000, or says that just this port is taken."""
    server = start_server(port=None)
    outcome = re.compile(r"http://localhost:9000/|\S+:9000: the port is in use")
    wait_until(lambda: outcome.search(server.stderr) or server.process.poll(), "the start")
    assert outcome.search(server.stderr), server.stderr
    help_text = start_server("-h")
    assert help_text.wait() == 0
    assert "(default: 9000)" in " ".join(help_text.stdout.split())


def test_installed_command_finds_filters_in_the_current_directory(
    start_server: Start, example: Callable[..., None]
) -> None:
    """The script `fws_server` that the installation has put beside Python runs a user's filter."""
    example("shout.py")
    script = Path(sys.executable).with_name("fws_server")
    server = start_server("-f", "shout", "broadcast_messages", command=(str(script),))
    with connect(server.url) as a, connect(server.url) as b:
        a.send("hello")
        assert b.recv(timeout=5) == "HELLO"
    assert server.stop() == 0


def test_token_groups_do_not_hear_each_other(start_server: Start) -> None:
    """A message stays in the group of its sender, and the raw bytes of all are printed."""
    server = start_server(
        "-f",
        "filtered_websocket.filters.stdout_rawdata",
        "filtered_websocket.filters.broadcast_messages_by_token",
    )
    with (
        connect(server.url) as red_1,
        connect(server.url) as red_2,
        connect(server.url) as blue_1,
        connect(server.url) as blue_2,
    ):
        groups = {"red": (red_1, red_2), "blue": (blue_1, blue_2)}
        red_1.send("too early")
        assert red_1.recv(timeout=5) == "Error: No token has been set"
        for name, members in groups.items():
            for member in members:
                member.send(f"token:{name}")
                reply = f"Successfully registered with broadcast group: {name}"
                assert member.recv(timeout=5) == reply
        for name, (first, second) in groups.items():
            first.send(f"to {name}")
            assert second.recv(timeout=5) == f"to {name}"
            second.send(f"back to {name}")
            assert first.recv(timeout=5) == f"back to {name}"
    handshake = "--RAWDATA--\nGET / HTTP/1.1\r\n"
    wait_until(lambda: server.stdout.count(handshake) == 4, "four printed handshakes")
    assert "--RAWDATA--\n\\x81" in server.stdout  # the first byte of a text frame


# Filters


CHAT = """\
from filtered_websocket.filters.base import WebSocketMessageFilter


class Broadcast(WebSocketMessageFilter):

    @classmethod
    def filter(cls, web_socket_instance, data):
        for user_id, user_instance in web_socket_instance.users.items():
            user_instance.sendMessage(bytes(data))
"""


def test_chat_in_ten_lines_reaches_everybody(start_server: Start, tmp_path: Path) -> None:
    """A module `broadcast` in the current directory sends to all, the sender too, text as text."""
    (tmp_path / "broadcast.py").write_text(CHAT)
    server = start_server("-f", "broadcast")
    with connect(server.url) as a, connect(server.url) as b:
        for message in ("hello", b"\x00\xff"):
            a.send(message)
            assert a.recv(timeout=5) == message
            assert b.recv(timeout=5) == message


@pytest.mark.parametrize(
    ("filters", "printed"),
    [
        (["popchar", "filtered_websocket.filters.stdout_messages"], "Tes"),
        (["filtered_websocket.filters.stdout_messages", "popchar"], "Test"),
    ],
)
def test_filters_run_in_the_order_of_the_command_line(
    start_server: Start, example: Callable[..., None], filters: list[str], printed: str
) -> None:
    """A filter that cuts off the last character shows in what runs after it only."""
    example("popchar.py")
    server = start_server("-f", *filters)
    with connect(server.url) as client:
        client.send("Test")
        wait_until(lambda: re.search(r"--MESSAGE--\n\S+ => .+\n", server.stdout), "the message")
    assert server.stdout.endswith(f" => {printed}\n")


def test_data_filter_answers_without_a_handshake(
    start_server: Start, example: Callable[..., None]
) -> None:
    """A name that is typed through a plain connection, as with `nc`, reaches a data filter."""
    example("hi_morgan.py")
    server = start_server("-f", "hi_morgan")
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as nc:
        nc.sendall(b"Morgan\n")
        wait_until(lambda: server.stdout, "the answer")
    assert server.stdout == "Hi Morgan!\n"


CHAINS = """\
from filtered_websocket.filters.base import FilterBase, FilterMeta, WebSocketMessageFilter

class Inherited(FilterBase):
    pass

class Made(FilterBase, metaclass=FilterMeta):
    pass

class I1(Inherited):
    @classmethod
    def filter(cls, web_socket_instance, data):
        data.append(cls.__name__)

class M1(Made):
    @classmethod
    def filter(cls, web_socket_instance, data):
        data.append(cls.__name__)

class I2(Inherited):
    @staticmethod
    def filter(web_socket_instance, data):
        data.append("I2")

class M2(Made):
    @staticmethod
    def filter(web_socket_instance, data):
        data.append("M2")

class RunBoth(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        for chain in Inherited, Made:
            ran = []
            chain.run(web_socket_instance, ran)
            web_socket_instance.sendMessage(" ".join(ran))
"""


def test_custom_chains_run_their_own_filters_in_order(start_server: Start, tmp_path: Path) -> None:
    """Two direct children of FilterBase, inherited or with a metaclass, do not mix."""
    (tmp_path / "chains.py").write_text(CHAINS)
    server = start_server("-f", "chains")
    with connect(server.url) as client:
        client.send("go")
        assert client.recv(timeout=5) == "I1 I2"
        assert client.recv(timeout=5) == "M1 M2"


def test_handshake_filter_lets_in_those_who_know_the_key(
    start_server: Start, tmp_path: Path, example: Callable[..., None]
) -> None:
    """Without the key the answer is 403; with it, later filters know the user."""
    example("auth.py")
    reply = 'web_socket_instance.sendMessage(web_socket_instance.state["user"])'
    (tmp_path / "who.py").write_text(CHAT[: CHAT.index("        for")] + f"        {reply}\n")
    server = start_server("-f", "auth", "who")
    with pytest.raises(InvalidStatus) as refused, connect(server.url):
        pass
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"a valid ?key= is needed\n"
    with connect(server.url + "?key=open-sesame") as client:
        client.send("who am I?")
        assert client.recv(timeout=5) == "ali"


def test_async_filter_keeps_the_order_of_messages(
    start_server: Start, example: Callable[..., None]
) -> None:
    """A filter that waits holds back the messages of a client, in their order."""
    example("slow.py")
    server = start_server("-f", "slow", "broadcast_messages")
    with connect(server.url) as a, connect(server.url) as b:
        for number in "123":
            a.send(number)
        assert [b.recv(timeout=5) for _ in "123"] == ["1", "2", "3"]


def test_example_storage_tells_what_it_stores(
    start_server: Start, example: Callable[..., None]
) -> None:
    """Each member of a group is told on stdout, but not those of --quiet_keys."""
    example("my_storage.py")
    server = start_server(
        *("-f", "broadcast_messages_by_token", "--quiet_keys", "secret"),
        environ={"STORAGE_OBJECT_MODULE": "my_storage"},
    )
    with connect(server.url) as client:
        for token in ("secret", "room"):
            client.send(f"token:{token}")
            client.recv(timeout=5)
    wait_until(lambda: server.stdout, "the output")
    assert server.stdout == "room: 1 members\n"


# The config file

CONFIGS = {
    "config.json": """\
    # Strings, as the first version wanted them.
{
    "port": "PORT",
        # An indented comment.
    "filters": ["broadcast", "filtered_websocket.filters.stdout_messages"],
    "drain_seconds": "0.5"
}
""",
    "native.json": """\
{
    "port": PORT, "drain_seconds": 0.5, "no_console": true,
    "filters": ["broadcast", "stdout_messages"]
}
""",
    "config.toml": """\
# The same as TOML.
port = PORT
drain_seconds = 0.5
filters = ["broadcast", "filtered_websocket.filters.stdout_messages"]
""",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_file_sets_port_and_filters(start_server: Start, tmp_path: Path, name: str) -> None:
    """A JSON file with comments and strings, one with native values, and TOML mean the same."""
    port = free_port()
    (tmp_path / "broadcast.py").write_text(CHAT)
    (tmp_path / name).write_text(CONFIGS[name].replace("PORT", str(port)))
    server = start_server("-c", name, port=None)
    assert server.port == port
    with connect(server.url) as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"
        wait_until(lambda: " => hello\n" in server.stdout, "the printed message")


@pytest.mark.parametrize("name", ["config.json", "config.toml"])
def test_example_config_runs_its_filters_without_console(
    start_server: Start, example: Callable[..., None], name: str
) -> None:
    """Its filters run and its flag holds; the port on the command line wins over its own."""
    example(name, "shout.py")
    server = start_server("-c", name)
    with connect(server.url) as a, connect(server.url) as b:
        a.send("hello")
        assert b.recv(timeout=5) == "HELLO"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert browser.recv(100).startswith(b"HTTP/1.1 426 ")


# All of them


FILTERS = [file for file in sorted(EXAMPLES.glob("*.py")) if not file.name.startswith("test_")]


@pytest.mark.parametrize("file", FILTERS, ids=lambda file: file.name)
def test_example_starts_without_a_warning(
    start_server: Start, example: Callable[..., None], file: Path
) -> None:
    """Each file of `examples/` is a module of filters, or of a storage object, that runs."""
    example(file.name)
    if "StorageObject" in file.read_text():
        server = start_server(environ={"STORAGE_OBJECT_MODULE": file.stem})
    else:
        server = start_server("-f", file.stem)
    with connect(server.url + "?key=open-sesame"):
        pass
    assert server.stop() == 0
    assert file.stem in server.stderr
    assert "WARNING" not in server.stderr and "ERROR" not in server.stderr


def python_blocks(*, are_scripts: bool) -> list[object]:
    """Return the Python code in the README and the manual, block by block.

    Those that use the test kit are scripts, the others filter modules.
    """
    pages = [EXAMPLES.parent / "README.md", *sorted((EXAMPLES.parent / "docs").rglob("*.md"))]
    fence = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(dedent(code), id=f"{page.name}-{number}")
        for page in pages
        for number, (_, code) in enumerate(fence.findall(page.read_text()), start=1)
        if ("filtered_websocket.testing" in code) is are_scripts
    ]


@pytest.mark.parametrize("code", python_blocks(are_scripts=True))
def test_script_of_the_manual_runs_beside_the_examples(tmp_path: Path, code: str) -> None:
    """What uses the test kit runs to its end, with the filters of the page in its directory."""
    for file in FILTERS:
        shutil.copy(file, tmp_path)
    (tmp_path / "script.py").write_text(code)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("code", python_blocks(are_scripts=False))
def test_python_block_of_the_manual_is_a_module_that_runs(
    start_server: Start, tmp_path: Path, code: str
) -> None:
    """What a reader copies from a page into a file works as a filter module."""
    (tmp_path / "copied.py").write_text(code)
    server = start_server("-f", "copied")
    assert server.port
    assert "WARNING" not in server.stderr
