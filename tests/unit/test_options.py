"""The table of options."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Any

import pytest

from filtered_websocket import __version__
from filtered_websocket.options import OPTIONS, default_parser

NAMES = [option.flags[-1] for option in OPTIONS]


def parse(*arguments: str) -> dict[str, Any]:
    return vars(default_parser().parse_args(arguments))


def test_defaults() -> None:
    """Without arguments it is the server of the documentation: port 9000 and two filters."""
    options = parse()
    assert options["port"] == 9000
    assert [name.rpartition(".")[2] for name in options["filters"]] == [
        "broadcast_messages",
        "stdout_messages",
    ]
    assert {name for name, value in options.items() if value in (None, False)} == {
        "cert",
        "check",
        "config",
        "explain",
        "drain_delay",
        "host",
        "key",
        "max_connections",
        "max_connections_per_ip",
        "metrics_host",
        "metrics_port",
        "no_console",
        "origins",
        "rate",
        "rate_burst",
        "trace",
        "trace_connection",
        "trace_match",
        "reuse_port",
        "trusted_proxies",
        "unix_socket",
    }


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["-p", "80"], "port", 80),
        (["--port", "0"], "port", 0),
        (["-c", "a.json"], "config", "a.json"),
        (["-f"], "filters", []),
        (["-f", "b", "a", "b"], "filters", ["b", "a", "b"]),
        (["-key", "k.pem"], "key", "k.pem"),
        (["--key", "k.pem"], "key", "k.pem"),
        (["-cert", "c.pem"], "cert", "c.pem"),
        (["--cert", "c.pem"], "cert", "c.pem"),
        (["--host", "*"], "host", "*"),
        (["--origins", "https://a.example", "*"], "origins", ["https://a.example", "*"]),
        (["--no_console"], "no_console", True),
        (["--drain_seconds", "0.5"], "drain_seconds", 0.5),
        (["--metrics_port", "0"], "metrics_port", 0),
        (["--metrics_host", "*"], "metrics_host", "*"),
        (["--max_message_size", "1"], "max_message_size", 1),
        (["--max_queue_bytes", "4096"], "max_queue_bytes", 4096),
        (["--slow_client", "drop_oldest"], "slow_client", "drop_oldest"),
        (["--drain_delay", "30"], "drain_delay", 30.0),
        (["--drain_code", "1012"], "drain_code", 1012),
        (["--reuse_port"], "reuse_port", True),
        (["--log_level", "debug"], "log_level", "debug"),
        (["--log_format", "json"], "log_format", "json"),
        (["--max_header_size", "16384"], "max_header_size", 16384),
        (["--handshake_timeout", "0.5"], "handshake_timeout", 0.5),
        (["--max_connections", "1"], "max_connections", 1),
        (["--max_connections_per_ip", "0"], "max_connections_per_ip", 0),
        (["--trusted_proxies", "10.0.0.0/8", "unix"], "trusted_proxies", ["10.0.0.0/8", "unix"]),
        (["--trusted_proxies", "::1"], "trusted_proxies", ["::1"]),
        (["--ping_interval", "0"], "ping_interval", 0.0),
        (["--ping_timeout", "0.5"], "ping_timeout", 0.5),
        (["--rate", "0.1"], "rate", 0.1),
        (["--rate", "0"], "rate", 0.0),
        (["--rate_burst", "0"], "rate_burst", 0),
        (["--compression", "deflate"], "compression", "deflate"),
        (["--compression_min_size", "0"], "compression_min_size", 0),
        (["--explain"], "explain", True),
        (["--check"], "check", True),
        (["--trace", "0"], "trace", 0),
        (["--trace_connection", "8f2c"], "trace_connection", "8f2c"),
        (["--trace_match", "a b"], "trace_match", "a b"),
    ],
)
def test_spellings(arguments: list[str], name: str, value: object) -> None:
    """Each option is understood in its spellings of 0.4.1 and in the long one."""
    assert parse(*arguments)[name] == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "65536"],
        ["-p", "-1"],
        ["-p", "http"],
        ["--origins"],
        ["--drain_seconds", "-1"],
        ["--metrics_port", "65536"],
        ["--drain_seconds", "inf"],
        ["--drain_seconds", "nan"],
        ["--drain_delay", "-1"],
        ["--drain_code", "1000"],
        ["--max_message_size", "0"],
        ["--max_queue_bytes", "many"],
        ["--slow_client", "wait"],
        ["--log_level", "loud"],
        ["--max_header_size", "0"],
        ["--handshake_timeout", "0"],
        ["--handshake_timeout", "nan"],
        ["--max_connections", "0"],
        ["--max_connections", "many"],
        ["--max_connections_per_ip", "-1"],
        ["--trusted_proxies"],
        ["--trusted_proxies", "10.0.0.0/8", "proxy.example"],
        ["--ping_interval", "-1"],
        ["--ping_timeout", "0"],
        ["--rate", "-1"],
        ["--rate", "nan"],
        ["--rate", "inf"],
        ["--rate", "1e-300"],
        ["--rate_burst", "0.5"],
        ["--compression", "gzip"],
        ["--compression_min_size", "-1"],
        ["--trace", "-1"],
        ["--trace", "some"],
        ["--por", "9000"],
    ],
)
def test_wrong_values(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A value that cannot be used is refused, and so is an abbreviated name."""
    with pytest.raises(SystemExit) as exit:
        parse(*arguments)
    assert exit.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_help_tells_of_each_option(name: str) -> None:
    """`-h` shows every option, with the default that the table has."""
    text = " ".join(default_parser().format_help().split())
    option = OPTIONS[NAMES.index(name)]
    assert name in text
    assert " ".join(option.help.split()) in text
    default = option.settings.get("default")
    if default not in (None, False, SUPPRESS) and not isinstance(default, list):
        assert f"(default: {default})" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints name and version, and is a success."""
    with pytest.raises(SystemExit) as exit:
        parse("--version")
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"fws_server {__version__}\n"


@pytest.mark.parametrize(
    ("name", "most", "too_much"),
    [
        ("--max_message_size", 2**40, 2**40 + 1),
        ("--max_message_size", 2**40, 2**63),
        ("--max_queue_bytes", 2**40, 2**40 + 1),
        ("--drain_seconds", 24 * 60 * 60, 24 * 60 * 60 + 1),
        ("--drain_seconds", 24 * 60 * 60, 1e300),
        ("--drain_delay", 24 * 60 * 60, 24 * 60 * 60 + 1),
        ("--handshake_timeout", 24 * 60 * 60, 24 * 60 * 60 + 1),
        ("--compression_min_size", 2**40, 2**40 + 1),
        ("--max_connections", 10**9, 10**9 + 1),
        ("--max_connections_per_ip", 10**9, 10**9 + 1),
        ("--rate", 10**9, 10**9 + 1),
        ("--rate_burst", 10**9, 10**400),
    ],
)
def test_numbers_have_an_upper_limit(
    name: str, most: float, too_much: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Much is possible, like a terabyte and a day; what the machine could not count is refused."""
    assert parse(name, str(most))[name.removeprefix("--")] == most
    with pytest.raises(SystemExit):
        parse(name, str(too_much))
    assert f"{too_much} is not a number " in capsys.readouterr().err


def test_a_bad_network_is_named_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    """Who writes an address with the prefix of its network is told the two right ways."""
    with pytest.raises(SystemExit):
        parse("--trusted_proxies", "127.0.0.1", "10.1.2.3/8")
    assert "'10.1.2.3/8' is no network: write 10.0.0.0/8 for" in capsys.readouterr().err
