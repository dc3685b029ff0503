"""Redis as it is run for real, with what goes wrong there, and clients who see what comes of it.

`SentinelSet` and `ClusterSet` are local processes; `Proxy` is a network that can fail.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any

import redis
from websockets.sync.client import ClientConnection, connect

from filtered_websocket.storage_objects.values import decode_value, encode_value

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess, free_port

Cluster = Callable[..., list[ServerProcess]]

BUS = 10000  # how far the port of a node for the other nodes is from its port for clients

OBSERVER = """\
class Observer(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if not msg.startswith(b"?"):
            return
        number, verb, *words = msg.decode()[1:].split()
        storage, answer = web_socket_instance.storage_object, None
        if verb == "id":
            answer = str(web_socket_instance.id)
        elif verb == "members":
            answer = sorted(map(str, storage.get(words[0]) or ()))
        else:
            {"add": storage.add, "remove": storage.remove, "publish": storage.publish}[verb](*words)
        web_socket_instance.sendMessage(f"={number} {json.dumps(answer)}")
        raise DropMessage


class Gaps(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance, item):
        if item["type"] == "gap":
            print("gap", json.dumps([item["seconds"], item["channels"]]), flush=True)
"""


class Client:
    """A WebSocket client that remembers what it got, and can ask the filters of `OBSERVER`."""

    def __init__(self, server: ServerProcess, group: str | None = None) -> None:
        self._stack = ExitStack()
        self.connection: ClientConnection = self._stack.enter_context(
            connect(
                server.url, compression=None, ping_interval=None, max_queue=None, close_timeout=1
            )
        )
        self._got: list[str] = []
        self._numbers = count()
        self.id: str = self.ask("id")
        if group is not None:
            self.join(group)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def got(self) -> list[str]:
        """All messages until now; raises ConnectionClosed when the connection is not open."""
        with suppress(TimeoutError):
            while True:
                self._got.append(str(self.connection.recv(timeout=0)))
        return self._got

    def send(self, message: str) -> None:
        self.connection.send(message)

    def ask(self, *words: str) -> Any:
        """Return the answer of the observer."""
        head = f"={next(self._numbers)} "
        self.send(" ".join(["?" + head[1:-1], *words]))
        wait_until(lambda: any(text.startswith(head) for text in self.got), f"the answer {words}")
        answer = next(text for text in self.got if text.startswith(head))
        self._got.remove(answer)
        return json.loads(answer.removeprefix(head))

    def members(self, group: str) -> set[str]:
        """Return what the server of this client has under a key."""
        return set(self.ask("members", group))

    def join(self, group: str) -> None:
        """Enter a group, or move to it."""
        before = len(self.got)
        self.send(f"token:{group}")
        wait_until(
            lambda: any(text.startswith("Successfully") for text in self.got[before:]), "the group"
        )

    def close(self) -> None:
        self._stack.close()

    def vanish(self) -> None:
        """End the connection without a word."""
        self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.close()


def hears(sender: Client, receiver: Client, message: str) -> None:
    """Send a message until the receiver gets it, as one does when some may be lost."""

    def arrived() -> bool:
        sender.send(message)
        return message in receiver.got

    wait_until(arrived, f"{message!r} from one client to the other")


def hears_items(store: redis.Redis, client: Client, item: str) -> None:
    """Publish an item until the client gets it."""

    def arrived() -> bool:
        store.publish("global", item)
        return item in client.got

    wait_until(arrived, f"the item {item!r}")


def members_in(store: Any, group: str, prefix: str = "fws") -> set[str]:
    """Return what Redis itself has under a key of a storage object."""
    name = f"{prefix}:set:{encode_value(group).decode()}"
    return {str(decode_value(value)) for value in store.smembers(name)}


def lines_with(server: ServerProcess, *words: str) -> list[str]:
    """Return the lines of its log with one of the words, each without its time."""
    lines = [line.split(" ", 2)[-1] for line in server.stderr.splitlines()]
    return [line for line in lines if any(word in line for word in words)]


def gaps(server: ServerProcess) -> list[tuple[float, list[str]]]:
    """Return seconds and channels of each gap item that the consumer chain got."""
    lines = [line for line in server.stdout.splitlines() if line.startswith("gap ")]
    return [tuple(json.loads(line.removeprefix("gap "))) for line in lines]


def seconds_until(condition: Callable[[], object], what: str) -> float:
    """Wait until `condition` holds; return how long that took."""
    start = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - start


class Proxy:
    """Forward TCP from a port of its own to another; stop to forward, or cut, on command."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._forwards = threading.Event()
        self._forwards.set()
        self._lets_in = True
        self._ended = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = True
        self.cut()
        self._forwards.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def stall(self) -> None:
        """Keep all connections, and forward nothing."""
        self._forwards.clear()

    def cut(self) -> None:
        """Close all connections, and each new one at once."""
        self._lets_in = False
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Forward again."""
        self._lets_in = True
        self._forwards.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self._ended:
                near = self._listener.accept()[0]
                far = self._connect() if self._lets_in else None
                if far is None:
                    near.close()
                    continue
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _connect(self) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            return None

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                self._forwards.wait()
                target.sendall(chunk)
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()


class SentinelSet:
    """A master, its replica, and three sentinels who are quick to promote it."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        enter = self._stack.enter_context
        try:
            self.master = enter(RedisProcess(folder / "master", "repl-diskless-sync-delay 0"))
            self.replica = enter(
                RedisProcess(folder / "replica", f"replicaof 127.0.0.1 {self.master.port}")
            )
            watch = (
                f"sentinel monitor mymaster 127.0.0.1 {self.master.port} 2",
                "sentinel down-after-milliseconds mymaster 500",
                "sentinel failover-timeout mymaster 2000",
            )
            # Under this name a redis-server is a sentinel; few systems have the command itself.
            command = folder / "redis-sentinel"
            command.symlink_to(str(shutil.which("redis-server")))
            self.sentinels = [
                enter(RedisProcess(folder / f"sentinel{n}", *watch, command=str(command)))
                for n in range(3)
            ]
            wait_until(self._is_complete, "that the sentinels know one another")
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> SentinelSet:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def places(self) -> list[str]:
        """What `--redis_sentinel` takes."""
        return [f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels]

    def master_port(self) -> int:
        """Return which port the sentinels call the master."""
        reply = self._ask(self.sentinels[0], "get-master-addr-by-name", "mymaster")
        return int(reply[1])

    def _is_complete(self) -> bool:
        info = self.replica.connect().info("replication")
        return info.get("master_link_status") == "up" and all(
            facts[b"num-slaves"] == b"1" and facts[b"num-other-sentinels"] == b"2"
            for facts in map(self._facts, self.sentinels)
        )

    def _facts(self, sentinel: RedisProcess) -> dict[bytes, bytes]:
        reply = self._ask(sentinel, "master", "mymaster")
        return dict(zip(reply[::2], reply[1::2], strict=True))

    @staticmethod
    def _ask(sentinel: RedisProcess, *words: str) -> Any:
        connection = redis.Connection(host="127.0.0.1", port=sentinel.port, protocol=2)
        try:
            connection.send_command("SENTINEL", *words)
            return connection.read_response()
        finally:
            connection.disconnect()


class ClusterSet:
    """A Redis Cluster of three nodes without replicas, which goes on with the slots it has."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        try:
            self.nodes = [
                self._stack.enter_context(
                    RedisProcess(
                        folder / f"node{n}",
                        "cluster-enabled yes",
                        "cluster-config-file nodes.conf",
                        "cluster-node-timeout 1000",
                        "cluster-require-full-coverage no",
                        port=_free_node_port(),
                    )
                )
                for n in range(3)
            ]
            places = [f"127.0.0.1:{node.port}" for node in self.nodes]
            subprocess.run(
                ["redis-cli", "--cluster", "create", *places, "--cluster-yes"],
                check=True,
                capture_output=True,
                timeout=60,
            )
            wait_until(self.is_whole, "that the nodes know one another")
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> ClusterSet:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def is_whole(self) -> bool:
        """Tell whether all nodes see all nodes, and a node for each slot."""
        return all(
            facts["cluster_state"] == "ok"
            and facts["cluster_slots_ok"] == "16384"
            and facts["cluster_known_nodes"] == "3"
            for facts in (node.connect().cluster("info") for node in self.nodes)
        )

    def node_of(self, key: str) -> RedisProcess:
        """Return the node that has the slot of a key."""
        slot = self.nodes[0].connect().cluster("keyslot", key)
        for low, high, node in self.slots():
            if low <= slot <= high:
                return node
        raise LookupError(key)

    def slots(self) -> Iterable[tuple[int, int, RedisProcess]]:
        """Yield first slot, last slot and node."""
        by_port = {node.port: node for node in self.nodes}
        for low, high, place, *_ in self.nodes[0].connect().cluster("slots"):
            yield low, high, by_port[place[1]]


def _free_node_port() -> int:
    """Return a free port whose bus port is free too."""
    while True:
        port = random.randrange(20000, 30000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            with socket.create_server(("127.0.0.1", port + BUS)):
                return port


__all__ = [
    "OBSERVER",
    "Client",
    "Cluster",
    "ClusterSet",
    "Proxy",
    "SentinelSet",
    "free_port",
    "gaps",
    "hears",
    "hears_items",
    "lines_with",
    "members_in",
    "seconds_until",
]
