"""The port of the clients: who may connect. The rest runs in the real process."""

from __future__ import annotations

import socket
from argparse import Namespace
from typing import Any

import pytest

from filtered_websocket.client_port import origin_policy
from filtered_websocket.config import resolve
from filtered_websocket.options import default_parser
from filtered_websocket.typing import StartError


def make_options(*arguments: str) -> Namespace:
    return resolve(default_parser(), arguments, {}).options


def test_origins_that_are_none(empty_chains: None) -> None:
    """A bad entry of --origins is found at the start."""
    with pytest.raises(StartError, match="--origins: 'chat' is not an origin"):
        origin_policy(make_options("--origins", "chat"), [])


@pytest.mark.parametrize(
    ("family", "allowed"),
    [(socket.AF_INET, False), (socket.AF_INET6, False), (socket.AF_UNIX, True)],
)
def test_public_pages_through_a_proxy(family: socket.AddressFamily, allowed: bool) -> None:
    """On loopback alone they may not connect; behind a Unix socket is a proxy that serves them."""

    class Listening:
        def __init__(self) -> None:
            self.family = family

        def getsockname(self) -> tuple[str, int]:
            return ("127.0.0.1", 9000)

    sockets: Any = [Listening()]
    policy = origin_policy(make_options(), sockets)
    assert policy.allows("https://chat.example", "chat.example") is allowed
