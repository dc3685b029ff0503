"""The options of the server: one table, which parser, environment and config file all read.

What belongs here: what can be set, with its default and its help. What does not: where a value
comes from (`config`).
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from dataclasses import dataclass, field
from typing import Any

from . import __version__

__all__ = ["DEFAULT_FILTERS", "OPTIONS", "Option", "default_parser"]

DEFAULT_FILTERS = (
    "filtered_websocket.filters.broadcast_messages",
    "filtered_websocket.filters.stdout_messages",
)


DAY = 24 * 60 * 60  # seconds
TERABYTE = 2**40


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
        ("--drain_seconds",),
        "seconds that clients have to leave when the server stops",
        {"type": seconds, "default": 5.0, "metavar": "SECONDS"},
    ),
    Option(
        ("--log_level",),
        "how much is logged: debug, info, warning or error",
        {"choices": ("debug", "info", "warning", "error"), "default": "info"},
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
    for option in OPTIONS:
        default = option.settings.get("default")
        shown = "" if default in (None, False) else f" (default: {_shown(default)})"
        parser.add_argument(*option.flags, help=option.help + shown, **option.settings)
    return parser


def _shown(default: Any) -> str:
    return " ".join(default) if isinstance(default, list) else str(default)
