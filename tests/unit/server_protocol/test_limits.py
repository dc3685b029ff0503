"""The bounds that a server has when nobody sets any."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from filtered_websocket import runner
from filtered_websocket.options import default_parser
from filtered_websocket.server_protocol.limits import Limits


def test_the_options_have_the_same_defaults() -> None:
    """A server made in code is bounded like one that was started without options."""
    limits = runner._limits(default_parser().parse_args([], Namespace()))
    assert replace(limits, sockets=None) == Limits()
