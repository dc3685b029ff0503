"""The interface of a subscriber: put what was published on the queue of the server."""

from __future__ import annotations

from argparse import Namespace
from typing import Any


class BaseSubscriber:
    """Feed a server's queue from a broker.

    Made once when the server starts, with the client of the storage object and the options.
    """

    data_producer: Any = None

    def __init__(self, client: Any, options: Namespace) -> None:
        self.client = client
        """What `get_client` of the storage object has returned."""
        self.options = options
        """The parsed options of the server."""

    def listener(self, web_socket_instance: Any) -> None:
        """Put each published item on `web_socket_instance.queue`, until `kill` is called.

        Runs in a thread of its own and may block; `queue.put` may be called from any thread.
        """
        raise NotImplementedError

    def kill(self) -> None:
        """Make `listener` return; called once, in the event loop, when the server stops."""
