"""Where the value of an option comes from."""

from __future__ import annotations

import argparse
import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket.config import DEFAULT, ConfigError, resolve
from filtered_websocket.options import DEFAULT_FILTERS, default_parser


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, so that files are named as a user names them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(
    *arguments: str,
    file: dict[str, Any] | str | None = None,
    parser: ArgumentParser | None = None,
    **environ: str,
) -> Namespace:
    """Resolve, with `file` as the content of config.json; there must be no warning."""
    if file is not None:
        Path("config.json").write_text(file if isinstance(file, str) else json.dumps(file))
        arguments += ("-c", "config.json")
    resolved = resolve(parser or default_parser(), arguments, environ)
    assert resolved.warnings == []
    return resolved.options


def complaint(*arguments: str, **settings: Any) -> str:
    """Return the one line of the ConfigError."""
    with pytest.raises(ConfigError) as error:
        options(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


# Which source wins


@pytest.mark.parametrize(
    ("name", "default", "in_file", "in_environment", "arguments", "values"),
    [
        ("port", 9000, 1, "2", ["-p", "3"], (1, 2, 3)),
        ("drain_seconds", 5.0, 1.5, "2", ["--drain_seconds", "3"], (1.5, 2.0, 3.0)),
        ("max_queue_bytes", 1048576, 1, "2", ["--max_queue_bytes", "3"], (1, 2, 3)),
        ("key", None, "a", "b", ["-key", "c"], ("a", "b", "c")),
        ("cert", None, "a", "b", ["--cert", "c"], ("a", "b", "c")),
        ("host", None, "a", "b", ["--host", "c"], ("a", "b", "c")),
        (
            "slow_client",
            "close",
            "drop_newest",
            "drop_oldest",
            ["--slow_client", "close"],
            ("drop_newest", "drop_oldest", "close"),
        ),
        (
            "log_level",
            "info",
            "debug",
            "warning",
            ["--log_level", "error"],
            ("debug", "warning", "error"),
        ),
        (
            "filters",
            list(DEFAULT_FILTERS),
            ["a", "b"],
            "c,d",
            ["-f"],
            (["a", "b"], ["c", "d"], []),
        ),
        (
            "origins",
            None,
            ["https://a.example"],
            "https://b.example *",
            ["--origins", "*"],
            (["https://a.example"], ["https://b.example", "*"], ["*"]),
        ),
        (
            "trusted_proxies",
            None,
            ["10.0.0.0/8", "unix"],
            "::1,192.0.2.1",
            ["--trusted_proxies", "unix"],
            (["10.0.0.0/8", "unix"], ["::1", "192.0.2.1"], ["unix"]),
        ),
        ("max_connections", None, 1, "2", ["--max_connections", "3"], (1, 2, 3)),
        ("max_connections_per_ip", 0, 1, "2", ["--max_connections_per_ip", "0"], (1, 2, 0)),
        ("max_header_size", 8192, 1, "2", ["--max_header_size", "3"], (1, 2, 3)),
        ("handshake_timeout", 10.0, 1, "2", ["--handshake_timeout", "3"], (1.0, 2.0, 3.0)),
        ("ping_interval", 20.0, 0, "2", ["--ping_interval", "3"], (0.0, 2.0, 3.0)),
        ("ping_timeout", 20.0, 1, "2", ["--ping_timeout", "3"], (1.0, 2.0, 3.0)),
        ("rate", 0.0, 0.5, "2", ["--rate", "0"], (0.5, 2.0, 0.0)),
        ("rate_burst", 0, 1, "2", ["--rate_burst", "0"], (1, 2, 0)),
        (
            "compression",
            "off",
            "deflate",
            "off",
            ["--compression", "deflate"],
            ("deflate", "off", "deflate"),
        ),
        ("compression_min_size", 256, 0, "2", ["--compression_min_size", "3"], (0, 2, 3)),
        ("no_console", False, True, "0", ["--no_console"], (True, False, True)),
        ("check", False, True, "0", ["--check"], (True, False, True)),
        ("trace", None, 1, "2", ["--trace", "0"], (1, 2, 0)),
        ("trace_match", None, "a", "b", ["--trace_match", "c"], ("a", "b", "c")),
    ],
)
def test_precedence(
    folder: Path,
    name: str,
    default: Any,
    in_file: Any,
    in_environment: str,
    arguments: list[str],
    values: tuple[Any, Any, Any],
) -> None:
    """The command line wins over the environment, that over the file, that over the default."""
    file, environ = {name: in_file}, {f"FWS_{name.upper()}": in_environment}
    seen = [
        options(),
        options(file=file),
        options(file=file, **environ),
        options(*arguments, file=file, **environ),
    ]
    assert [getattr(each, name) for each in seen] == [default, *values]


def test_a_default_given_on_the_command_line_wins_too(folder: Path) -> None:
    """An explicit argument counts as such, also when it says what would hold anyway."""
    assert options("-p", "9000", file={"port": 1}, FWS_PORT="2").port == 9000


def test_other_options_stay(folder: Path) -> None:
    """Each option is decided on its own."""
    resolved = options("-p", "3", file={"port": 1, "key": "k"}, FWS_HOST="*")
    assert (resolved.port, resolved.key, resolved.host) == (3, "k", "*")


def test_the_environment_may_name_the_file(folder: Path) -> None:
    """FWS_CONFIG is -c, which wins over it."""
    for name, port in (("a.json", 1), ("b.json", 2)):
        Path(name).write_text(json.dumps({"port": port}))
    assert options(FWS_CONFIG="a.json").port == 1
    assert options("-c", "b.json", FWS_CONFIG="a.json").port == 2


def test_each_value_has_its_source(folder: Path) -> None:
    """The source that won is named: the variable, the file with the key, or the default."""
    Path("a.json").write_text('{"port": 1, "host": "*", "rate": 5, "flags": ["no_console"]}')
    arguments = ["-c", "a.json", "-key", "k", "--rate", "0"]
    environ = {"FWS_PORT": "2", "FWS_FILTERS": "a b", "FWS_CERT": ""}
    found, sources, _ = resolve(default_parser(), arguments, environ)
    assert set(sources) == set(vars(found))
    assert {name: source for name, source in sources.items() if source != DEFAULT} == {
        "config": "command line",
        "key": "command line",
        "rate": "command line",
        "port": "FWS_PORT",
        "filters": "FWS_FILTERS",
        "host": "a.json: host",
        "no_console": "a.json: no_console",
    }


# The config file


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ({"port": "9999"}, "port", 9999),
        ({"port": 9999}, "port", 9999),
        ({"drain_seconds": "1"}, "drain_seconds", 1.0),
        ({"drain_seconds": 1}, "drain_seconds", 1.0),
        ({"key": 5}, "key", "5"),
        ({"key": "-odd name.pem"}, "key", "-odd name.pem"),
        ({"host": "a=b"}, "host", "a=b"),
        ({"filters": "one"}, "filters", ["one"]),
        ({"filters": []}, "filters", []),
        ({"filters": ["a b", "c"]}, "filters", ["a b", "c"]),
        ({"no_console": True}, "no_console", True),
        ({"no_console": "yes"}, "no_console", True),
        ({"no_console": 1}, "no_console", True),
        ({"no_console": False}, "no_console", False),
        ({"no_console": "false"}, "no_console", False),
        ({"flags": ["no_console"]}, "no_console", True),
        ({"flags": []}, "no_console", False),
    ],
)
def test_strings_and_native_values(
    folder: Path, file: dict[str, Any], name: str, value: Any
) -> None:
    """A value may be written as a string or natively; `flags` lists names that are true."""
    assert getattr(options(file=file), name) == value


def test_json_with_comments_and_toml_say_the_same(folder: Path) -> None:
    """The two formats differ in spelling only."""
    toml = Path("config.toml")
    toml.write_text('port = 1\nfilters = ["a"]\nflags = ["no_console"]\n')
    written = '# a comment\n{"port": "1",\n  # another\n "filters": ["a"], "no_console": true}'
    from_json, from_toml = options(file=written), options("-c", str(toml))
    assert vars(from_json) | {"config": None} == vars(from_toml) | {"config": None}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"prot": 1}, "config.json: unknown key 'prot'; did you mean 'port'?"),
        ({"flags": ["no_konsole"]}, "config.json: unknown key 'no_konsole'; did you mean 'no_co"),
        ({"xyzzy": 1}, "config.json: unknown key 'xyzzy'; known are port, filters, key, cert, "),
        ({"config": "b.json"}, "config.json: unknown key 'config'"),
        ({"help": True}, "config.json: unknown key 'help'"),
        ({"p": 1}, "config.json: unknown key 'p'"),
        ({"port": "http"}, "config.json: port: invalid port value: 'http'"),
        ({"port": 65536}, "config.json: port: 65536 is not a port: 0 to 65535"),
        ({"port": 1.5}, "config.json: port: invalid port value: '1.5'"),
        ({"port": True}, "config.json: port: expected one value, not True"),
        ({"port": None}, "config.json: port: expected one value, not None"),
        ({"port": [1]}, "config.json: port: expected one value, not [1]"),
        ({"key": {"a": 1}}, "config.json: key: expected one value, not {'a': 1}"),
        ({"filters": {"a": 1}}, 'config.json: filters: expected a list, like ["a", "b"], not {'),
        ({"filters": ["a", ["b"]]}, "config.json: filters: expected a list"),
        ({"filters": ["-p"]}, "config.json: filters: expected a list"),
        ({"origins": []}, "config.json: origins: expected at least one argument"),
        ({"trusted_proxies": []}, "config.json: trusted_proxies: expected at least one argument"),
        ({"trusted_proxies": ["10/8"]}, "config.json: trusted_proxies: '10/8' is no network"),
        ({"rate": "fast"}, "config.json: rate: invalid rate value: 'fast'"),
        ({"no_console": "maybe"}, "config.json: no_console: expected true or false, not 'maybe'"),
        ({"no_console": None}, "config.json: no_console: expected true or false, not None"),
        ({"flags": "no_console"}, "config.json: flags: expected a list of names"),
        ({"flags": [1]}, "config.json: flags: expected a list of names"),
        ({"flags": ["port"]}, "config.json: port: expected one value, not True"),
        ({"log_level": "loud"}, "config.json: log_level: invalid choice: 'loud'"),
        ('{"port": 1,\n "port": 2}', "config.json: the key 'port' is there twice"),
        ('# one\n{"port": }', "config.json, line 2, column 10: bad JSON"),
        ("[]", "config.json: expected one JSON object"),
    ],
)
def test_what_is_wrong_in_the_file(folder: Path, file: Any, expected: str) -> None:
    """The error names the file, the key, and what would be right."""
    assert complaint(file=file).startswith(expected)


def test_a_missing_file(folder: Path) -> None:
    """A config file that is not there is an error: it was asked for."""
    assert complaint("-c", "nothing.json") == "nothing.json: No such file or directory"


# The environment


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a,b", ["a", "b"]), ("a b", ["a", "b"]), (" a,  b\n", ["a", "b"]), ("a, b,", ["a", "b"])],
)
def test_lists_in_the_environment(text: str, expected: list[str]) -> None:
    """A list is written with commas, spaces or both; one too many at the end means nothing."""
    assert options(FWS_FILTERS=text).filters == expected


@pytest.mark.parametrize("name", ["FWS_PORT", "FWS_NO_CONSOLE", "FWS_FILTERS", "FWS_CONFIG"])
def test_an_empty_variable_is_not_set(name: str) -> None:
    """Compose files and unit files set variables to nothing; that changes nothing."""
    assert options(**{name: ""}) == options()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"FWS_PORT": "http"}, "FWS_PORT: invalid port value: 'http'"),
        ({"FWS_NO_CONSOLE": "maybe"}, "FWS_NO_CONSOLE: expected true or false, not 'maybe'"),
        ({"FWS_LOG_LEVEL": "loud"}, "FWS_LOG_LEVEL: invalid choice: 'loud'"),
    ],
)
def test_what_is_wrong_in_the_environment(environ: dict[str, str], expected: str) -> None:
    """The error names the variable."""
    assert complaint(**environ).startswith(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FWS_PROT", ["FWS_PROT is not an option; did you mean 'FWS_PORT'?"]),
        (
            "FWS_REDIS_PORT",
            [
                "FWS_REDIS_PORT is not an option; the options of Redis need "
                "STORAGE_OBJECT_MODULE=filtered_websocket.storage_objects.redis"
            ],
        ),
        ("FWS_KEY_PASSWORD", []),
        ("STORAGE_OBJECT_MODULE", []),
        ("fws_port", []),
    ],
)
def test_an_unknown_variable_is_a_warning(name: str, expected: list[str]) -> None:
    """A variable that looks like an option but is none is told of; secrets and others are not."""
    assert resolve(default_parser(), [], {name: "1"}).warnings == expected


# The command line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chat"], "unknown argument 'chat'; filters are named after -f: fws_server -f chat"),
        (["--prot", "1"], "unknown argument '--prot'; did you mean '--port'?"),
        (
            ["--redis_host", "x"],
            "unknown argument '--redis_host'; the options of Redis need "
            "STORAGE_OBJECT_MODULE=filtered_websocket.storage_objects.redis",
        ),
        (["--prot=1"], "unknown argument '--prot=1'; did you mean '--port'?"),
        (["-p", "http"], "argument -p/--port: invalid port value: 'http'"),
        (["-p"], "argument -p/--port: expected one argument"),
    ],
)
def test_what_is_wrong_on_the_command_line(arguments: list[str], expected: str) -> None:
    """The error names the argument, and what was probably meant."""
    assert complaint(*arguments) == expected


@pytest.mark.parametrize("argument", ["-h", "--version"])
def test_help_needs_nothing_else(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Help and version are printed with success, whatever the environment says."""
    with pytest.raises(SystemExit) as exit:
        options(argument, FWS_PORT="http")
    assert exit.value.code == 0
    assert capsys.readouterr().out


# Options that a storage object adds


def storage_parser(*names: str, **settings: Any) -> ArgumentParser:
    parser = default_parser()
    parser.add_argument(*(names or ("--redis_port",)), **settings)
    return parser


def test_a_storage_option_comes_from_everywhere(folder: Path) -> None:
    """An option of a storage object has the same four sources as the server's own."""
    file = {"redis_port": 1}
    seen = [
        options(parser=storage_parser(type=int, default=6379)),
        options(parser=storage_parser(type=int, default=6379), file=file),
        options(parser=storage_parser(type=int, default=6379), file=file, FWS_REDIS_PORT="2"),
        options("--redis_port", "3", parser=storage_parser(type=int, default=6379), file=file),
    ]
    assert [each.redis_port for each in seen] == [6379, 1, 2, 3]


def test_a_required_option(folder: Path) -> None:
    """A required option may be given anywhere; nowhere is an error that names it."""
    assert complaint(parser=storage_parser(required=True)) == "--redis_port is required"
    assert options("--redis_port", "1", parser=storage_parser(required=True)).redis_port == "1"
    assert options(FWS_REDIS_PORT="2", parser=storage_parser(required=True)).redis_port == "2"
    file = {"redis_port": 3}
    assert options(file=file, parser=storage_parser(required=True)).redis_port == "3"


def test_a_default_that_is_a_string_is_converted() -> None:
    """As in argparse, a default in the spelling of the command line gets the option's type."""
    assert options(parser=storage_parser(type=int, default="6379")).redis_port == 6379


@pytest.mark.parametrize(
    ("settings", "in_file", "expected"),
    [
        ({"action": "store_true"}, True, True),
        ({"action": "store_true"}, False, False),
        ({"action": "store_false"}, True, False),
        ({"action": "store_const", "const": "fast"}, True, "fast"),
        ({"action": argparse.BooleanOptionalAction}, True, True),
        ({"action": argparse.BooleanOptionalAction, "default": True}, False, False),
        ({"nargs": "+"}, ["a", "b"], ["a", "b"]),
        ({"nargs": "?", "const": "c"}, "a", "a"),
        ({"action": "append"}, ["a", "b"], ["a", "b"]),
        ({"action": "extend", "nargs": "+"}, ["a", "b"], ["a", "b"]),
    ],
)
def test_kinds_of_storage_options(
    folder: Path, settings: dict[str, Any], in_file: Any, expected: Any
) -> None:
    """Whatever argparse offers to a storage object can be written in the config file."""
    parser = storage_parser("--redis_x", **settings)
    assert options(parser=parser, file={"redis_x": in_file}).redis_x == expected


@pytest.mark.parametrize(
    ("settings", "arguments", "expected"),
    [
        ({"action": "append"}, ["--x", "a", "--x", "b"], ["a", "b"]),
        ({"action": "extend", "nargs": "+"}, ["--x", "a", "b", "--x", "c"], ["a", "b", "c"]),
        ({"action": "count", "default": 0}, ["--x", "--x"], 2),
        ({"action": argparse.BooleanOptionalAction}, ["--no-x"], False),
    ],
)
def test_kinds_of_storage_options_on_the_command_line(
    settings: dict[str, Any], arguments: list[str], expected: Any
) -> None:
    """Actions that build on an earlier value begin with none, as in argparse."""
    assert options(*arguments, parser=storage_parser("--x", **settings)).x == expected


# What must not end in a traceback


@pytest.mark.parametrize("source", ["arguments", "file", "environment", "default"])
def test_a_type_of_a_storage_option_that_raises(folder: Path, source: str) -> None:
    """Whatever a storage's own type raises, wherever the value is from, it is told in one line."""
    default = {"default": "x"} if source == "default" else {}
    parser = storage_parser("--redis_level", type={}.__getitem__, **default)
    message = {
        "arguments": lambda: complaint("--redis_level", "x", parser=parser),
        "file": lambda: complaint(file={"redis_level": "x"}, parser=parser),
        "environment": lambda: complaint(FWS_REDIS_LEVEL="x", parser=parser),
        "default": lambda: complaint(parser=parser),
    }[source]()
    assert "redis_level" in message.lower()
    assert "KeyError: 'x'" in message


def test_a_default_of_a_storage_option_that_its_type_refuses(folder: Path) -> None:
    """A default that cannot be parsed is told of like a value that cannot."""
    assert "redis_port" in complaint(parser=storage_parser(type=int, default="many"))


@pytest.mark.parametrize("name", ["config.json", "config.toml"])
def test_a_file_that_is_nested_too_deeply(folder: Path, name: str) -> None:
    """It is refused like any other file that cannot be read."""
    before = "filters = " if name.endswith(".toml") else ""
    (folder / name).write_text(before + "[" * 100_000)
    assert complaint("-c", name) == f"{name}: it is nested too deeply"


def test_a_positional_argument_of_a_storage(folder: Path) -> None:
    """It is no option: files and variables do not know it, and it is asked for by its name."""
    parser = storage_parser("room", type=int)
    assert options("5", parser=parser).room == 5
    assert "room" in complaint(parser=parser)
    assert "unknown key 'room'" in complaint("5", file={"room": 5}, parser=parser)
