"""Test filters without sockets and without waiting: run a pipeline in memory.

    from filtered_websocket.testing import Pipeline

    def test_a_message_reaches_the_others():
        with Pipeline("my_filter", "broadcast_messages") as pipeline:
            alice, bob = pipeline.connect(), pipeline.connect()
            alice.send("hi")
            assert bob.received == ["hi"]

What runs is the server's own code, from the bytes of the handshake to the bytes of the frames; only
the sockets and the clock are not real.
"""

from .client import Client, Refused
from .pipeline import Pipeline

__all__ = ["Client", "Pipeline", "Refused"]
