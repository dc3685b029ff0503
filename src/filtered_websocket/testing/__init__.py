"""Test filters without sockets and without waiting: run a pipeline in memory.

    from filtered_websocket.testing import Pipeline

    def test_a_message_reaches_the_others():
        with Pipeline("my_filter", "broadcast_messages") as pipeline:
            alice, bob = pipeline.connect(), pipeline.connect()
            alice.send("hi")
            assert bob.received == ["hi"]

What runs is the server's own code, from the bytes of the handshake to the bytes of the frames; only
the sockets and the clock are not real. `Server` takes and has the same, and they are.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client, Refused
    from .laws import LawBroken, check_filter
    from .pipeline import Pipeline
    from .server import Server

__all__ = ["Client", "LawBroken", "Pipeline", "Refused", "Server", "check_filter"]

HOMES = {
    "Client": "client",
    "LawBroken": "laws",
    "Pipeline": "pipeline",
    "Refused": "client",
    "Server": "server",
    "check_filter": "laws",
}


def __getattr__(name: str) -> Any:
    # Late, since pytest loads the plugin also where nobody uses it, and since the laws need
    # hypothesis, which those who do not check them need not install.
    if name in HOMES:
        return getattr(import_module(f".{HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
