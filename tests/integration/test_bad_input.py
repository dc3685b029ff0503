"""What users and filter authors get wrong: it costs a line that helps, and nobody else."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until

Start = Callable[..., ServerProcess]

FILTER = """\
from filtered_websocket.filters.base import WebSocketMessageFilter

class Filter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        pass
"""


def refusal(server: ServerProcess) -> str:
    """Return what a server said that did not start: one or two lines, whatever was wrong."""
    code = server.wait()
    assert code in (1, 2), f"exit code {code}\n{server.stderr}"
    assert "Traceback" not in server.stderr
    assert server.stderr.startswith("fws_server: ")
    assert len(server.stderr.splitlines()) <= 2, server.stderr
    assert server.stdout == ""
    return server.stderr


def problems(server: ServerProcess) -> list[str]:
    """Return the log records of level WARNING and above, each with its traceback."""
    records = re.split(r"^(?=\d{4}-\d\d-\d\d )", server.stderr, flags=re.MULTILINE)
    return [r for r in records if re.match(r"\S+ \S+ (WARNING|ERROR|CRITICAL) ", r)]


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "9001"], "unknown argument '--prot'; did you mean '--port'?"),
        (["my_filter"], "unknown argument 'my_filter'; filters are named after -f"),
        (["-p", "http"], "-p/--port: invalid port value: 'http'"),
        (["-p", "65536"], "-p/--port: 65536 is not a port: 0 to 65535"),
        (["-c"], "-c/--config: expected one argument"),
        (["--log_level", "loud"], "--log_level: invalid choice: 'loud' (choose from"),
        (["--drain_seconds", "inf"], "--drain_seconds: inf is not a number of seconds"),
        (["--max_message_size", "0"], "0 is not a number of bytes above zero"),
        (["--host", "nowhere.invalid"], "cannot listen on --host nowhere.invalid: "),
        (["--origins", "chat.example"], "--origins: 'chat.example' is not an origin: write scheme"),
        (["-f", "my_filter", "config.json"], "'config.json' was not found; to read a config file"),
        (["-f", "my_filter", "8000"], "'8000' was not found; to choose the port, write -p 8000"),
        (["-f", "my_filter.py"], "'my_filter.py' was not found; name the module, not the file"),
        (["-f", "./my_filter.py"], "'./my_filter.py' was not found; name the module, not the file"),
        (["-f", "my_filtre"], "filter module 'my_filtre' was not found; is its folder the current"),
        (["-key", "key.pem"], "-key was given without -cert: TLS needs both"),
        (["-cert", "cert.pem"], "-cert was given without -key: TLS needs both"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_argument_is_refused_with_what_to_write(
    start_server: Start, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """An argument that cannot be used ends the start; the message names it and the right one."""
    (tmp_path / "my_filter.py").write_text(FILTER)
    assert message in refusal(start_server(*arguments))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_port_in_use_is_refused(start_server: Start, address: str) -> None:
    """A port that another program has, on either loopback address, is named with what to do."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        other = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with other:
        port = other.getsockname()[1]
        message = refusal(start_server(port=port))
    shown = f"[{address}]" if ":" in address else address
    assert f"cannot listen on {shown}:{port}: the port is in use; " in message
    assert "choose a port with -p" in message


# Take the right to bind low ports away, also from root, and then become the server.
UNPRIVILEGED = """\
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "filtered_websocket", *sys.argv[1:]])
"""


def test_privileged_port_is_refused(start_server: Start) -> None:
    """A port that the system reserves is named; where the system reserves none, it works."""
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    port = max(first_free - 1, 1)
    server = start_server("--host", "127.0.0.9", port=port, command=("-c", UNPRIVILEGED))
    if first_free <= port:
        assert server.port == port
    else:
        assert f"cannot listen on 127.0.0.9:{port}: ports below" in (message := refusal(server))
        assert "choose a higher one with -p" in message


# Environment and config file


def test_wrong_value_of_a_variable_is_refused(start_server: Start) -> None:
    """A variable with a wrong value is named, not the option that stands for it."""
    server = start_server(port=None, environ={"FWS_PORT": "http"})
    assert "FWS_PORT: invalid port value: 'http'" in refusal(server)


def test_unknown_variable_is_a_warning(start_server: Start) -> None:
    """A variable FWS_… that is no option is reported with the nearest one; the server runs."""
    server = start_server(environ={"FWS_PROT": "9001"})
    assert server.port
    (warning,) = problems(server)
    assert "FWS_PROT is not an option; did you mean 'FWS_PORT'?" in warning


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", '{\n  # why\n  "port": 1,,\n}', "c.json, line 3, column 13: bad JSON: "),
        ("c.json", '{"port": 1', "c.json, line 1, column 11: bad JSON: "),
        ("c.json", "", "c.json, line 1, column 1: bad JSON: "),
        ("c.json", "[1]", 'c.json: expected one JSON object, {"port": 9000, …}'),
        ("c.json", '{"port": 1, "port": 2}', "c.json: the key 'port' is there twice"),
        ("c.toml", "port = 1\nhost = = 2\n", "c.toml: Invalid value (at line 2, column 8)"),
        ("c.toml", "port = 1\nport = 2\n", "c.toml: Cannot overwrite a value (at line 2"),
        ("c.json", '{"prot": 1}', "c.json: unknown key 'prot'; did you mean 'port'?"),
        ("c.toml", "prot = 1", "c.toml: unknown key 'prot'; did you mean 'port'?"),
        (
            "c.json",
            '{"flags": ["no_consol"]}',
            "unknown key 'no_consol'; did you mean 'no_console'",
        ),
        ("c.json", '{"flags": "no_console"}', "c.json: flags: expected a list of names"),
        ("c.json", '{"port": "http"}', "c.json: port: invalid port value: 'http'"),
        ("c.json", '{"port": [1]}', "c.json: port: expected one value, not [1]"),
        ("c.json", '{"port": true}', "c.json: port: expected one value, not True"),
        ("c.json", '{"no_console": "maybe"}', "c.json: no_console: expected true or false, not "),
        ("c.json", '{"filters": {"a": 1}}', "c.json: filters: expected a list, like "),
        ("c.json", '{"filters": ["nothing"]}', "filter module 'nothing' was not found; "),
        ("c.json", '{"key": "key.pem"}', "-key was given without -cert: TLS needs both"),
    ],
)
def test_bad_config_file_is_refused_with_the_place(
    start_server: Start, tmp_path: Path, name: str, text: str, message: str
) -> None:
    """A config file that cannot be used is named, with the place or the key and what is right."""
    (tmp_path / name).write_text(text)
    assert message in refusal(start_server("-c", name))


@pytest.mark.parametrize("name", ["missing.json", "missing.toml", "."])
def test_unreadable_config_file_is_refused(start_server: Start, name: str) -> None:
    """A config file that is not there, or is no file, is named with the reason."""
    reason = "Is a directory" if name == "." else "No such file or directory"
    assert f"{name}: {reason}" in refusal(start_server("-c", name))


# Modules


FAILING_MODULES = {
    "raises": ("x = 1\n\nx = 1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
    "raises in a function": ("def f():\n    raise KeyError('x')\n\nf()\n", "line 2: KeyError: 'x'"),
    "raises in a library": ("import json\njson.loads('{')\n", "line 2: JSONDecodeError: Expecting"),
    "lacks a module": (
        "import nothing\n",
        "line 1: ModuleNotFoundError: No module named 'nothing'",
    ),
    "is not Python": ("x = 1\ndef f(:\n", "line 2: SyntaxError: "),
    "exits": ("import sys\nsys.exit(0)\n", "line 2: SystemExit: 0"),
    "says much": ("raise ValueError('a\\nb\\nc')\n", "line 1: ValueError: a"),
}


@pytest.mark.parametrize(("source", "message"), FAILING_MODULES.values(), ids=FAILING_MODULES)
@pytest.mark.parametrize("kind", ["filter", "storage"])
def test_module_that_fails_on_import_is_refused_with_its_authors_line(
    start_server: Start, tmp_path: Path, kind: str, source: str, message: str
) -> None:
    """The message has the author's file and line, not those of Python or of the server."""
    file = tmp_path / "broken.py"
    file.write_text(source)
    if kind == "filter":
        server = start_server("-f", "broken")
    else:
        server = start_server(environ={"STORAGE_OBJECT_MODULE": "broken"})
    assert f"{kind} module 'broken' failed on import: {file}, {message}" in refusal(server)


def test_package_that_lacks_a_module_is_not_called_missing(
    start_server: Start, tmp_path: Path
) -> None:
    """A package that imports what is not installed is told apart from one that is not there."""
    package = tmp_path / "geo_filters"
    package.mkdir()
    (package / "__init__.py").write_text("import geo\n")
    (package / "near.py").write_text(FILTER)
    reason = f"{package / '__init__.py'}, line 1: ModuleNotFoundError: No module named 'geo'"
    assert reason in refusal(start_server("-f", "geo_filters.near"))


def test_filter_without_decorator_is_refused(start_server: Start, tmp_path: Path) -> None:
    """A filter that is a plain method cannot run; the message says where, and what to put there."""
    (tmp_path / "plain.py").write_text(FILTER.replace("    @classmethod\n", ""))
    message = refusal(start_server("-f", "plain"))
    assert f"filter plain.Filter ({tmp_path / 'plain.py'}, line 4): put @classmethod" in message


def test_module_without_filters_is_a_warning(start_server: Start, tmp_path: Path) -> None:
    """A module that has no filter in it is reported; the server runs."""
    (tmp_path / "empty.py").write_text("x = 1\n")
    server = start_server("-f", "empty")
    assert server.port
    (warning,) = problems(server)
    assert "filter module 'empty' has no filters: it needs a class that inherits from" in warning


STORAGE = """\
from filtered_websocket.storage_objects import default

class StorageObject(default.StorageObject):
    """


WRONG_STORAGES = {
    "missing": (None, "(STORAGE_OBJECT_MODULE) was not found; is its folder the current "),
    "without StorageObject": ("x = 1\n", "has no class StorageObject"),
    "constructor raises": (f"{STORAGE}def __init__(self, o): 1 / 0", "ZeroDivisionError: division"),
    "without constructor": ("class StorageObject: pass", "TypeError: StorageObject() takes no"),
    "parser raises": (f"{STORAGE}parser = lambda parser: 1 / 0", "ZeroDivisionError: division by"),
    "option exists": (f"{STORAGE}parser = lambda parser: parser.add_argument('--port')", "--port"),
}


@pytest.mark.parametrize(("source", "message"), WRONG_STORAGES.values(), ids=WRONG_STORAGES)
def test_bad_storage_module_is_refused(
    start_server: Start, tmp_path: Path, source: str | None, message: str
) -> None:
    """A storage module that cannot be used is named with the reason."""
    if source is not None:
        (tmp_path / "my_storage.py").write_text(source)
    said = refusal(start_server(environ={"STORAGE_OBJECT_MODULE": "my_storage"}))
    assert "my_storage" in said
    assert message in said


# TLS


@pytest.fixture(scope="module")
def pem_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with cert.pem, its key.pem and encrypted.pem, other.pem and garbage.pem."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    pair, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    pair.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    encrypted = load_pem_private_key(pair.private_key_pem.bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    )
    (folder / "encrypted.pem").write_bytes(encrypted)
    (folder / "garbage.pem").write_text("not a key")
    return folder


@pytest.mark.parametrize(
    ("key", "cert", "password", "message"),
    [
        ("missing.pem", "cert.pem", "", "-key {folder}/missing.pem: No such file or directory"),
        ("key.pem", "missing.pem", "", "-cert {folder}/missing.pem: No such file or directory"),
        ("", "cert.pem", "", "-key {folder}/: Is a directory"),
        ("other.pem", "cert.pem", "", "/other.pem is not the key of -cert {folder}/cert.pem"),
        ("garbage.pem", "cert.pem", "", "/garbage.pem and -cert {folder}/cert.pem are not a key"),
        ("key.pem", "garbage.pem", "", "/key.pem and -cert {folder}/garbage.pem are not a key"),
        ("encrypted.pem", "cert.pem", "", "is encrypted, and FWS_KEY_PASSWORD is not set"),
        ("encrypted.pem", "cert.pem", "wrong", "FWS_KEY_PASSWORD is not its password"),
    ],
)
def test_bad_tls_files_are_refused(
    start_server: Start, pem_files: Path, key: str, cert: str, password: str, message: str
) -> None:
    """A key or certificate that cannot be used is named by its option, with the reason."""
    server = start_server(
        *("-key", f"{pem_files}/{key}", "-cert", f"{pem_files}/{cert}"),
        environ={"FWS_KEY_PASSWORD": password},
    )
    assert message.format(folder=pem_files) in refusal(server)


def test_encrypted_key_opens_with_its_password(start_server: Start, pem_files: Path) -> None:
    """With the right password in the environment the server runs, without a warning."""
    server = start_server(
        *("-key", f"{pem_files}/encrypted.pem", "-cert", f"{pem_files}/cert.pem"),
        environ={"FWS_KEY_PASSWORD": "open sesame"},
    )
    assert server.port
    assert not problems(server)


# Filters that misbehave while the server runs

MISBEHAVING = """\
import sys
from filtered_websocket.filters.base import *

class Misbehaving({chain}):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if web_socket_instance.request.path == "/author" and msg in (None, b"do it"):
            victims = [u for u in web_socket_instance.users.values() if u.request.path == "/victim"]
            {statement}

class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
"""


def misbehave(
    start_server: Start, folder: Path, statement: str, chain: str = "WebSocketMessageFilter"
) -> list[str]:
    """Run `statement` in a filter, prove that clients live on; return what was logged about it."""
    (folder / "wild.py").write_text(MISBEHAVING.format(chain=chain, statement=statement))
    server = start_server("-f", "wild", "broadcast_pubsub")
    with connect(server.url + "other") as other, connect(server.url + "victim"):
        with connect(server.url + "author") as author:
            author.send("do it")
            for client in (author, other):
                client.send("still here?")
                wait_until(lambda client=client: client.recv(timeout=5) == "still here?", "echo")
        other.send("and now?")
        assert other.recv(timeout=5) == "and now?"
    assert server.stop() == 0
    return problems(server)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("raise ValueError('oops')", "ValueError: oops"),
        ("return 123", "TypeError: returned int; a filter returns None, bytes, bytearray or str"),
        ("sys.exit('enough')", "SystemExit: enough"),
        ("web_socket_instance.sendMessage(123)", "a message is bytes, bytearray or str, not int"),
        ("web_socket_instance.users.broadcast(None)", "bytes, bytearray or str, not NoneType"),
    ],
)
def test_filter_that_fails_costs_one_record_with_its_name(
    start_server: Start, tmp_path: Path, statement: str, reason: str
) -> None:
    """The record names the filter and the reason; both clients live on."""
    (record,) = misbehave(start_server, tmp_path, statement)
    assert "filter wild.Misbehaving failed: " in record
    assert reason in record


@pytest.mark.parametrize("chain", ["Message", "Connect", "Disconnect"])
def test_failure_is_logged_with_the_authors_line_only(
    start_server: Start, tmp_path: Path, chain: str
) -> None:
    """Whichever chain it is in, the traceback begins in the author's file."""
    (record,) = misbehave(start_server, tmp_path, "1 / 0", f"WebSocket{chain}Filter")
    files = re.findall(r'File "(.+)", line (\d+), in', record)
    assert files == [(str(tmp_path / "wild.py"), "9")]


def test_message_to_a_closed_connection_costs_one_record_with_the_place(
    start_server: Start, tmp_path: Path
) -> None:
    """What is sent to a connection after its end is dropped; the record has the author's line."""
    (record,) = misbehave(
        start_server,
        tmp_path,
        "[v] = victims; v.loseConnection(); v.sendMessage('late'); v.sendMessage('later')",
    )
    assert f"a message to it was dropped ({tmp_path / 'wild.py'}, line 9)" in record


@pytest.mark.parametrize("view", ["items()", "values()"])
@pytest.mark.parametrize("method", ["loseConnection", "abortConnection"])
def test_closing_users_in_a_loop_over_users_is_allowed(
    start_server: Start, tmp_path: Path, view: str, method: str
) -> None:
    """A loop over the users may close some of them; nothing is logged, the rest live on."""
    statement = (
        f"for _ in web_socket_instance.users.{view}: [victim.{method}() for victim in victims]"
    )
    assert misbehave(start_server, tmp_path, statement) == []


@pytest.mark.parametrize("rubbish", ["123", "{'type': 'message'}"])
def test_rubbish_in_the_queue_costs_one_record_with_the_filters_name(
    start_server: Start, tmp_path: Path, rubbish: str
) -> None:
    """What the consumer chain cannot use is reported by the filter that got it."""
    (record,) = misbehave(start_server, tmp_path, f"web_socket_instance.queue.put({rubbish})")
    name = "filtered_websocket.filters.broadcast_pubsub.BroadcastPubSubFilter"
    assert f"filter {name} failed: " in record
