"""The interface of a storage object."""

from __future__ import annotations

import asyncio
import threading
from argparse import ArgumentParser, Namespace
from typing import Any

import pytest

from filtered_websocket.storage_objects.base import (
    BasePubSubStorageObject,
    BaseStorageObject,
    StorageError,
)
from filtered_websocket.storage_objects.subscribers.base import BaseSubscriber


class OneKey(BaseStorageObject):
    def get(self, key: Any) -> Any:
        return f"values of {key}"


def test_storage_keeps_the_options() -> None:
    """A storage object finds the options that it was started with."""
    options = Namespace(redis_port=6379)
    assert BaseStorageObject(options).options is options


def test_brackets_mean_get() -> None:
    """`storage[key]` is `storage.get(key)`, also for a class that overrides `get` alone."""
    assert OneKey(Namespace())["token"] == "values of token"


def test_a_storage_is_ready_by_default() -> None:
    """One that has nothing to wait for says nothing."""
    assert OneKey(Namespace()).why_not_ready() == ""


def test_parser_is_returned_unchanged_by_default() -> None:
    """A storage without options of its own leaves the command line as it is."""
    parser = ArgumentParser()
    before = parser.format_help()
    assert BaseStorageObject.parser(parser) is parser
    assert parser.format_help() == before


def test_in_and_for_are_errors() -> None:
    """A storage object is no dict; asking for 0, 1, 2 … would never end."""
    storage: Any = OneKey(Namespace())
    with pytest.raises(TypeError, match="is not a container|not iterable"):
        "token" in storage  # noqa: B015
    with pytest.raises(TypeError, match="is not iterable"):
        iter(storage)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get", ["key"]),
        ("add", ["key", 1]),
        ("remove", ["key", 1]),
        ("publish", ["channel", b"data"]),
        ("get_client", []),
        ("get_subscriber", []),
    ],
)
def test_what_a_storage_must_provide(method: str, arguments: list[Any]) -> None:
    """A method that a child class forgot says so when it is called."""
    with pytest.raises(NotImplementedError):
        getattr(BasePubSubStorageObject(Namespace()), method)(*arguments)


class Subscriber(BaseSubscriber):
    """Listen until it is killed; keep what happened."""

    def __init__(self, client: Any, options: Namespace) -> None:
        super().__init__(client, options)
        self.heard: list[tuple[Any, Any, int]] = []
        self.began, self.killed, self.ended = (threading.Event() for _ in range(3))

    def listener(self, web_socket_instance: Any) -> None:
        self.heard.append((self.client, web_socket_instance, threading.get_ident()))
        self.began.set()
        self.killed.wait(10)
        self.ended.set()

    def kill(self) -> None:
        self.killed.set()


class PubSub(BasePubSubStorageObject):
    made: list[Subscriber]

    def get_client(self) -> Any:
        return "client"

    def get_subscriber(self) -> Any:  # type: ignore[override]
        self.made = []

        def make(client: Any, options: Namespace) -> Subscriber:
            self.made.append(Subscriber(client, options))
            return self.made[-1]

        return make


async def test_a_subscriber_listens_while_the_server_runs() -> None:
    """Its listener gets the server, in a thread of its own, until it is killed at the end."""
    storage, server = PubSub(Namespace()), object()
    async with storage.running(server):
        (subscriber,) = storage.made
        assert await asyncio.to_thread(subscriber.began.wait, 10)
        assert not subscriber.killed.is_set()
    assert subscriber.killed.is_set()
    assert await asyncio.to_thread(subscriber.ended.wait, 10)
    ((client, instance, thread),) = subscriber.heard
    assert (client, instance) == ("client", server)
    assert thread != threading.get_ident()


async def test_a_subscriber_that_cannot_be_made() -> None:
    """The server does not start, and the error names the storage and the reason."""

    class Broken(PubSub):
        def get_client(self) -> Any:
            raise OSError("no broker")

    with pytest.raises(StorageError, match=r"Broken failed .*: OSError: no broker$"):
        async with Broken(Namespace()).running(None):
            pytest.fail("it ran")
