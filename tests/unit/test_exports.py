"""What programs for 0.4.1 and its documentation import is still there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

import filtered_websocket

NAMES = {
    "config_deserializer": ["config_deserializer"],
    "filters.base": [
        "FilterBase",
        "FilterMeta",
        "WebSocketConsumerFilter",
        "WebSocketDataFilter",
        "WebSocketDisconnectFilter",
        "WebSocketMessageFilter",
    ],
    "filters.broadcast_messages": ["BroadcastMessagesFilter"],
    "filters.broadcast_messages_by_token": ["TokenMessageFilter", "TokenDisconnectFilter"],
    "filters.broadcast_pubsub": ["BroadcastMessageFilter", "BroadcastPubSubFilter"],
    "filters.stdout_messages": ["BroadcastMessageFilter", "StdoutMessageFilter"],
    "filters.stdout_pubsub": ["BroadcastMessageFilter", "StdoutPubSubFilter"],
    "filters.stdout_rawdata": ["StdoutRawDataFilter"],
    "server": ["FilteredWebSocket", "FilteredWebSocketFactory", "default_parser"],
    "server_protocol.exception": ["FrameError", "ProtocolError"],
    "server_protocol.frame": ["Frame"],
    "server_protocol.server": ["Protocol"],
    "storage_objects.base": ["BaseStorageObject", "BasePubSubStorageObject"],
    "storage_objects.default": ["StorageObject"],
    "storage_objects.subscribers.base": ["BaseSubscriber"],
}

MEMBERS = {
    "filters.base:FilterBase": ["filter", "run"],
    "server:FilteredWebSocket": [
        "abortConnection",
        "dataReceived",
        "loseConnection",
        "onConnect",
        "onDisconnect",
        "onMessage",
        "queue",
        "sendMessage",
        "storage_object",
    ],
    "server:FilteredWebSocketFactory": ["buildProtocol", "consumer"],
    "server_protocol.frame:Frame": ["buildMessage", "encodeMessage", "length", "message"],
    "storage_objects.base:BaseStorageObject": ["add", "get", "parser", "remove", "__getitem__"],
    "storage_objects.base:BasePubSubStorageObject": ["get_client", "get_subscriber", "publish"],
    "storage_objects.subscribers.base:BaseSubscriber": ["data_producer", "kill", "listener"],
}


def load(module: str, name: str) -> Any:
    return getattr(import_module(f"filtered_websocket.{module}"), name)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NAMES.items() for name in names]
)
def test_name_is_importable(module: str, name: str, empty_chains: None) -> None:
    """The name is in the module where programs look for it."""
    assert callable(load(module, name))


@pytest.mark.parametrize("place", MEMBERS)
def test_class_has_its_members(place: str) -> None:
    """What programs call or override is there under its old name."""
    assert [name for name in MEMBERS[place] if not hasattr(load(*place.split(":")), name)] == []


@pytest.mark.parametrize("module", ["broadcast_pubsub", "stdout_messages", "stdout_pubsub"])
def test_both_spellings_are_one_class(module: str, empty_chains: None) -> None:
    """A filter with two names runs once."""
    first, second = (load(f"filters.{module}", name) for name in NAMES[f"filters.{module}"])
    assert first is second


def test_package_exports_what_filters_need() -> None:
    """The names that the package itself promises are there."""
    assert all(hasattr(filtered_websocket, name) for name in filtered_websocket.__all__)
