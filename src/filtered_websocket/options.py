"""The options of the server: one table, which parser, environment and config file all read.

What belongs here: what can be set, with its default and its help. What does not: where a value
comes from (`config`).
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import dataclass, field
from typing import Any

from . import __version__
from .addresses import parse_network

__all__ = ["DEFAULT_FILTERS", "OPTIONS", "Option", "default_parser"]

DEFAULT_FILTERS = (
    "filtered_websocket.filters.broadcast_messages",
    "filtered_websocket.filters.stdout_messages",
)


DAY = 24 * 60 * 60  # seconds
TERABYTE = 2**40
BILLION = 10**9


@dataclass(frozen=True)
class Option:
    """One option: its spellings, its help, and what argparse needs to know about it."""

    flags: tuple[str, ...]
    help: str
    settings: dict[str, Any] = field(default_factory=dict)


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ArgumentTypeError(f"{text} is not a port: 0 to 65535")
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= DAY:
        raise ArgumentTypeError(f"{text} is not a number of seconds, a day at most")
    return number


def size(text: str) -> int:
    number = int(text)
    if not 0 < number <= TERABYTE:
        raise ArgumentTypeError(f"{text} is not a number of bytes above zero, up to a terabyte")
    return number


def threshold(text: str) -> int:
    number = int(text)
    if not 0 <= number <= TERABYTE:
        raise ArgumentTypeError(f"{text} is not a number of bytes, up to a terabyte")
    return number


def timeout(text: str) -> float:
    number = float(text)
    if not 0 < number <= DAY:
        raise ArgumentTypeError(f"{text} is not a number of seconds above zero, a day at most")
    return number


def count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= BILLION:
        raise ArgumentTypeError(f"{text} is not a number from zero up to a billion")
    return number


def limit(text: str) -> int:
    number = int(text)
    if not 0 < number <= BILLION:
        raise ArgumentTypeError(f"{text} is not a number above zero, up to a billion")
    return number


def rate(text: str) -> float:
    number = float(text)
    if number and not 1 / DAY <= number <= BILLION:
        raise ArgumentTypeError(
            f"{text} is not a number of messages per second: from one a day to a billion, or 0"
        )
    return number


def proxy(text: str) -> str:
    if text != "unix":
        try:
            parse_network(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None
    return text


OPTIONS = (
    Option(
        ("-p", "--port"),
        "the port to listen on; 0 takes a free one",
        {"type": port, "default": 9000, "metavar": "PORT"},
    ),
    Option(
        ("-c", "--config"),
        "a file with options, JSON or (by its name) TOML",
        {"metavar": "CONFIG"},
    ),
    Option(
        ("-f", "--filters"),
        "the filter modules, in the order in which they run; a bare -f means none",
        {"nargs": "*", "metavar": "FILTER", "default": list(DEFAULT_FILTERS)},
    ),
    Option(("-key", "--key"), "the file of the TLS private key", {"metavar": "KEY"}),
    Option(
        ("-cert", "--cert"),
        "the file of the TLS certificate, with its chain",
        {"metavar": "CERT"},
    ),
    Option(
        ("--host",),
        "the address to listen on: a name or address, or '*' for all "
        "(default: this machine only, IPv4 and IPv6)",
        {"metavar": "HOST"},
    ),
    Option(
        ("--unix_socket",),
        "listen on this Unix socket instead of a port",
        {"metavar": "PATH"},
    ),
    Option(
        ("--reuse_port",),
        "let another server with --reuse_port listen on the same port, or take over the "
        "Unix socket: a new one can start before the old one stops",
        {"action": "store_true"},
    ),
    Option(
        ("--origins",),
        "the web pages that may connect, like https://chat.example; '*' for any "
        "(default: pages of the host that they connect to)",
        {"nargs": "+", "metavar": "ORIGIN"},
    ),
    Option(
        ("--no_console",),
        "do not answer GET / with the console page",
        {"action": "store_true"},
    ),
    Option(
        ("--max_message_size",),
        "bytes of a message from a client; a longer one closes the connection with 1009",
        {"type": size, "default": 1024 * 1024, "metavar": "BYTES"},
    ),
    Option(
        ("--max_queue_bytes",),
        "bytes that may wait for a slow client",
        {"type": size, "default": 1024 * 1024, "metavar": "BYTES"},
    ),
    Option(
        ("--slow_client",),
        "what happens beyond that: close (with 1013), drop_oldest or drop_newest",
        {"choices": ("close", "drop_oldest", "drop_newest"), "default": "close"},
    ),
    Option(
        ("--max_header_size",),
        "bytes of a handshake request; a longer one is answered with 431",
        {"type": size, "default": 8192, "metavar": "BYTES"},
    ),
    Option(
        ("--handshake_timeout",),
        "seconds that a handshake may take; a longer one is answered with 408",
        {"type": timeout, "default": 10.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--max_connections",),
        "connections that there may be; one more is answered with 503 "
        "(default: as many as the limit on open files leaves)",
        {"type": limit, "metavar": "NUMBER"},
    ),
    Option(
        ("--max_connections_per_ip",),
        "connections that there may be from one address (of IPv6: one /64); "
        "one more is answered with 429 (default: 0, any number)",
        {"type": count, "default": 0, "metavar": "NUMBER"},
    ),
    Option(
        ("--trusted_proxies",),
        "the proxies that are believed who the client is: networks like 10.0.0.0/8, addresses, "
        "or unix for one that connects through a Unix socket (default: none)",
        {"type": proxy, "nargs": "+", "metavar": "NETWORK"},
    ),
    Option(
        ("--ping_interval",),
        "seconds between two pings to each client; 0 turns pings off",
        {"type": seconds, "default": 20.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--ping_timeout",),
        "seconds that a client may be silent after a ping; beyond that it is closed with 1011",
        {"type": timeout, "default": 20.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--rate",),
        "messages that a client may send per second, also fractions; "
        "what is beyond that is read later (default: 0, any number)",
        {"type": rate, "default": 0.0, "metavar": "MESSAGES"},
    ),
    Option(
        ("--rate_burst",),
        "messages that a client may send at once before --rate counts "
        "(default: 0, as many as --rate allows in a second, at least 1)",
        {"type": count, "default": 0, "metavar": "MESSAGES"},
    ),
    Option(
        ("--compression",),
        "deflate compresses messages with the clients that offer it; off does not",
        {"choices": ("off", "deflate"), "default": "off"},
    ),
    Option(
        ("--compression_min_size",),
        "bytes of a message from which on it is compressed",
        {"type": threshold, "default": 256, "metavar": "BYTES"},
    ),
    Option(
        ("--drain_delay",),
        "seconds that a server which was told to stop still accepts, while /ready answers 503 "
        "(default: 0)",
        {"type": seconds, "default": 0.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--drain_seconds",),
        "seconds over which the clients are then closed, each 20 ms or less after the one before",
        {"type": seconds, "default": 5.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--drain_code",),
        "the close code that they get: 1001 (going away) or 1012 (service restart)",
        {"type": int, "choices": (1001, 1012), "default": 1001},
    ),
    Option(
        ("--metrics_port",),
        "serve metrics for Prometheus, health and a dashboard on this port; 0 takes a free one "
        "(default: they are off)",
        {"type": port, "metavar": "PORT"},
    ),
    Option(
        ("--metrics_host",),
        "the address to serve them on: a name or address, or '*' for all "
        "(default: this machine only, IPv4 and IPv6)",
        {"metavar": "HOST"},
    ),
    Option(
        ("--log_level",),
        "how much is logged: debug, info, warning or error",
        {"choices": ("debug", "info", "warning", "error"), "default": "info"},
    ),
    Option(
        ("--log_format",),
        "how the log looks: text, or json, one object in each line",
        {"choices": ("text", "json"), "default": "text"},
    ),
    Option(
        ("--explain",),
        "print what these arguments would start, with warnings, and do not start it",
        {"action": "store_true"},
    ),
    Option(
        ("--check",),
        "tell the errors and warnings of these arguments, and do not start",
        {"action": "store_true"},
    ),
    Option(
        ("--trace",),
        "print the way of the next messages through their filters, this many; "
        "kill -USR1 begins again (default: 0, or 10 beside the two below)",
        {"type": count, "metavar": "NUMBER"},
    ),
    Option(
        ("--trace_connection",),
        "trace only messages of the connection whose id begins so, or from this address",
        {"metavar": "ID"},
    ),
    Option(
        ("--trace_match",),
        "trace only messages that contain this text",
        {"metavar": "TEXT"},
    ),
)


def default_parser() -> ArgumentParser:
    """Return the parser of the server's own options; storage objects add theirs to it."""
    parser = ArgumentParser(
        prog="fws_server",
        description="A WebSocket server whose behaviour is a list of filters.",
        epilog=(
            "Each option can also be set by an environment variable (FWS_PORT for --port) or in\n"
            "the config file; the command line wins over the environment, that over the file.\n"
            "STORAGE_OBJECT_MODULE names the module of the storage object."
        ),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fws_server {__version__}")
    parser.add_argument(
        "--new_filter",
        help="write the filter NAME.py and its test into the current directory, and exit",
        metavar="NAME",
        default=SUPPRESS,  # something to do, and no setting: neither environment nor file has it
    )
    for option in OPTIONS:
        default = option.settings.get("default")
        shown = "" if default in (None, False) else f" (default: {_shown(default)})"
        parser.add_argument(*option.flags, help=option.help + shown, **option.settings)
    return parser


def _shown(default: Any) -> str:
    return " ".join(default) if isinstance(default, list) else str(default)
