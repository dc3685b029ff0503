"""The interface of a subscriber."""

from __future__ import annotations

from argparse import Namespace

import pytest

from filtered_websocket.storage_objects.subscribers.base import BaseSubscriber


def test_subscriber_keeps_client_and_options() -> None:
    """A subscriber finds what it was made with."""
    client, options = object(), Namespace()
    subscriber = BaseSubscriber(client, options)
    assert (subscriber.client, subscriber.options) == (client, options)


def test_a_listener_is_the_one_thing_to_provide() -> None:
    """A child class must override `listener`; `kill` may stay as it is."""
    subscriber = BaseSubscriber(None, Namespace())
    with pytest.raises(NotImplementedError):
        subscriber.listener(None)
    subscriber.kill()
