"""Filters as users write them, with types: mypy and pyright in strict mode have nothing to say.

A line that must not pass has a `type: ignore`, which both complain of when it is not needed.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, assert_type
from uuid import UUID

from filtered_websocket.filters.base import (
    DropMessage,
    FilterBase,
    Message,
    RejectHandshake,
    Request,
    WebSocketConnectFilter,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.storage_objects import default
from filtered_websocket.testing import Client, Pipeline, Refused, Server
from filtered_websocket.users import Users

# A filter of each chain


class Raw(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: bytearray) -> None:
        print(web_socket_instance.id, data.hex())


class Check(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, request: Request) -> None:
        assert_type(request.query, dict[str, str])
        assert_type(request.cookies, dict[str, str])
        assert_type(request.subprotocols, list[str])
        assert_type(request.headers.get("Authorization"), str | None)
        if request.path != "/chat":
            raise RejectHandshake(404, "no such room", {"Retry-After": "5"})
        web_socket_instance.token = request.query["room"]
        web_socket_instance.state["user"] = request.peer
        web_socket_instance.subprotocol = "chat"
        web_socket_instance.response_headers["Set-Cookie"] = "seen=1"


class Greet(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        assert_type(web_socket_instance.id, UUID)
        assert_type(web_socket_instance.request, Request)
        assert_type(web_socket_instance.users, Users[FilteredWebSocket])
        web_socket_instance.storage_object.add("members", web_socket_instance.id)
        web_socket_instance.sendMessage(f"hello {web_socket_instance.request.path}")
        web_socket_instance.queue.put({"joined": web_socket_instance.id})


class Shout(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: Message) -> bytearray | str | None:
        if msg.is_binary:
            raise DropMessage
        if msg.startswith(b"{"):
            return json.dumps(json.loads(msg))
        msg.is_binary = False
        return msg.upper()


class Broadcast(WebSocketMessageFilter):
    @staticmethod
    def filter(web_socket_instance: FilteredWebSocket, msg: Message) -> None:
        users = web_socket_instance.users
        users.broadcast(msg, skip=web_socket_instance.id)
        users.broadcast(b"members", group="members")
        users.broadcast("to one", to=[web_socket_instance.id])
        for user_id, user in users.items():
            assert_type(user_id, UUID)
            assert_type(user, FilteredWebSocket)
            user.sendMessage(bytes(msg))
        for user in users.values():
            if user.state.get("muted"):
                user.loseConnection(4000, "muted")
        if web_socket_instance.id in users:
            users[web_socket_instance.id].abortConnection()


class Leave(WebSocketDisconnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        await asyncio.sleep(1)
        web_socket_instance.storage_object.remove("members", web_socket_instance.id)


class Wait(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance: FilteredWebSocket, msg: Message) -> str:
        await asyncio.sleep(1)
        return "done"


class Push(WebSocketConsumerFilter):
    @classmethod
    def filter(
        cls, web_socket_instance: FilteredWebSocketFactory, item: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        web_socket_instance.users.broadcast(item["data"], group=item["channel"])
        for user in web_socket_instance.users.values():
            assert_type(user, FilteredWebSocket)
        return {**item, "pushed": True}


class Simple(WebSocketMessageFilter):
    """What somebody writes who has no types elsewhere."""

    @classmethod
    def filter(cls, web_socket_instance: Any, data: Any) -> Any:
        return data


# A chain of one's own


class Greeting(FilterBase):
    pass


class Hello(Greeting):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: str) -> None:
        print("hello", data)


def greet(web_socket_instance: FilteredWebSocket) -> None:
    Greeting.run(web_socket_instance, "you")


# What a filter calls in the background


class Tick(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        task = web_socket_instance.factory.spawn(cls.tick(web_socket_instance))
        assert_type(task, asyncio.Task[None])

    @staticmethod
    async def tick(web_socket_instance: FilteredWebSocket) -> None:
        web_socket_instance.sendMessage("tick")


# A storage


class StorageObject(default.StorageObject):
    def add(self, key: str, value: object) -> None:  # type: ignore[override]
        """Take fewer keys than the interface promises."""
        raise NotImplementedError


# Tests


def test_shout(fws_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = fws_pipeline("shout", "broadcast_messages", rate=2)
    check(pipeline)


def check(pipeline: Pipeline) -> None:
    alice = pipeline.connect("/chat?room=1", {"Cookie": "a=b"}, peer="192.0.2.1")
    assert_type(alice, Client)
    alice.send("hi")
    alice.send(b"\x00")
    alice.send_fragments(["h", "i"])
    assert_type(alice.received, list[str | bytes])
    assert_type(alice.close_code, int | None)
    assert_type(alice.connection, FilteredWebSocket)
    assert_type(alice.connection.request.path, str)
    pipeline.put({"type": "message", "data": b"hi"})
    pipeline.advance(0.5)
    assert_type(pipeline.call(lambda: len(pipeline.server.users)), int)
    assert_type(pipeline.errors, list[str])
    try:
        pipeline.connect("/", [("Cookie", "a=b")])
    except Refused as refused:
        assert_type(refused.status, int)
        assert_type(refused.headers, dict[str, str])
    with Pipeline("shout", storage="my_storage") as another:
        assert_type(another, Pipeline)
        another.close()


def test_over_sockets(fws_server: Callable[..., Server]) -> None:
    server = fws_server("shout", storage="my_storage", rate=2)
    check_both(server)
    assert_type(server.url, str)
    assert_type(server.http_url, str)
    with Server("shout", "broadcast_messages") as another:
        assert_type(another, Server)
        check_both(another)


def check_both(run: Pipeline | Server) -> None:
    alice = run.connect("/chat", {"Cookie": "a=b"}, peer="127.0.0.2")
    assert_type(alice, Client)
    run.put(b"hi")
    run.wait_for(lambda: alice.received, seconds=1)
    assert_type(alice.close_reason, str)
    assert_type(alice.is_open, bool)
    assert_type(run.call(lambda: len(run.server.users)), int)
    assert_type(run.errors, list[str])
    assert_type(run.log[0].levelno, int)
    assert_type(run.module("shout").__name__, str)
    run.close()


# What must not pass


def wrong(web_socket_instance: FilteredWebSocket, request: Request, pipeline: Pipeline) -> None:
    web_socket_instance.sendMessage({"a": 1})  # type: ignore[arg-type]
    web_socket_instance.sendMesage("hi")  # type: ignore[attr-defined]
    web_socket_instance.users.broadcast(None)  # type: ignore[arg-type]
    web_socket_instance.users.broadcast("hi", skip="alice")  # type: ignore[arg-type]
    web_socket_instance.users.brodcast("hi")  # type: ignore[attr-defined]
    web_socket_instance.loseConnection("bye")  # type: ignore[arg-type]
    print(web_socket_instance.request.pth)  # type: ignore[attr-defined]
    for user in web_socket_instance.users.values():
        user.send("hi")  # type: ignore[attr-defined]
    request.query["a"].decode()  # type: ignore[attr-defined]
    raise RejectHandshake("no")  # type: ignore[arg-type]


def wrong_test(pipeline: Pipeline, client: Client) -> None:
    client.send({"a": 1})  # type: ignore[arg-type]
    print(client.recieved)  # type: ignore[attr-defined]
    client.received = []  # type: ignore[misc]
    pipeline.conect()  # type: ignore[attr-defined]


def wrong_server(server: Server) -> None:
    server.advance(1)  # type: ignore[attr-defined]
    server.wait_for("hi")  # type: ignore[arg-type]


def wrong_await(pipeline: Pipeline) -> Awaitable[Client]:
    return pipeline.connect()  # type: ignore[return-value]
