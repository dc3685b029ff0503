"""Whether new clients should be sent here."""

from __future__ import annotations

from argparse import Namespace

from filtered_websocket.operation.readiness import Readiness
from filtered_websocket.storage_objects.base import BaseStorageObject


class Storage(BaseStorageObject):
    """Say what it is told to."""

    reason = ""

    def why_not_ready(self) -> str:
        return self.reason


def test_a_server_is_ready_between_its_start_and_its_stop() -> None:
    """It says why not before and after, in a word."""
    readiness = Readiness(object())  # a storage of 0.4.1 is not asked
    assert readiness.why_not() == "starting"
    readiness.begin()
    assert readiness.why_not() == ""
    readiness.end()
    assert readiness.why_not() == "draining"


def test_a_server_is_as_ready_as_its_storage() -> None:
    """The storage is asked each time; what the server itself does comes first."""
    storage = Storage(Namespace())
    storage.reason = "Redis is away"
    readiness = Readiness(storage)
    assert readiness.why_not() == "starting"
    readiness.begin()
    assert readiness.why_not() == "Redis is away"
    storage.reason = ""
    assert readiness.why_not() == ""
    storage.reason = "Redis is away"
    readiness.end()
    assert readiness.why_not() == "draining"
