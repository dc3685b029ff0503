"""Stand-ins for what bundled filters use."""

from __future__ import annotations

from argparse import Namespace
from typing import Any
from uuid import UUID, uuid4

from filtered_websocket.storage_objects.default import StorageObject


class FakeUsers(dict[UUID, Any]):
    """Record broadcasts as (message, skip, group)."""

    def __init__(self) -> None:
        super().__init__()
        self.broadcasts: list[tuple[Any, UUID | None, Any]] = []

    def broadcast(self, msg: Any, skip: UUID | None = None, group: Any = None) -> None:
        self.broadcasts.append((msg, skip, group))


class FakeServer:
    """What connections share; also the `web_socket_instance` of consumer filters."""

    def __init__(self) -> None:
        self.users = FakeUsers()
        self.storage_object = StorageObject(Namespace())


class FakeConnection:
    """Record what is sent to it."""

    def __init__(self, server: FakeServer | None = None, token: str | None = None) -> None:
        server = server or FakeServer()
        self.id = uuid4()
        self.users = server.users
        self.storage_object = server.storage_object
        self.token = token
        self.sent: list[Any] = []

    def sendMessage(self, msg: Any) -> None:
        self.sent.append(msg)
