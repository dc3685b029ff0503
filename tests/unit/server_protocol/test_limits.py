"""The bounds that a server has when nobody sets any."""

from __future__ import annotations

from argparse import Namespace

from filtered_websocket.options import default_parser
from filtered_websocket.server_protocol.limits import Limits


def test_the_options_have_the_same_defaults() -> None:
    """A server made in code is bounded like one that was started without options."""
    assert Limits.of(default_parser().parse_args([], Namespace())) == Limits()
