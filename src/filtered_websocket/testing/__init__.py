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

from typing import TYPE_CHECKING, Any

from .client import Client, Refused
from .pipeline import Pipeline
from .server import Server

if TYPE_CHECKING:
    from .laws import LawBroken, check_filter

__all__ = ["Client", "LawBroken", "Pipeline", "Refused", "Server", "check_filter"]


def __getattr__(name: str) -> Any:
    # Late, since it needs hypothesis, which those who do not check laws need not install.
    if name in ("LawBroken", "check_filter"):
        from . import laws

        return getattr(laws, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
