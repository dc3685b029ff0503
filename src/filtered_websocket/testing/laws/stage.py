"""Play a story on a pipeline, and see what comes of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from logging import ERROR, LogRecord
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ...filters import base
from ...filters.base import Chain, text_of
from ...frames import BINARY, TEXT
from ..client import Client, Refused, Transport, message_frames, request
from ..pipeline import Pipeline
from . import leaks
from .law import Breach, place_of_error
from .story import Cuts, Send, Step, Story, shown
from .watch import Interrupted, Watch

__all__ = ["Play", "Stage"]

MAX_TURNS = 10_000  # of the event loop, for one step of a story
MOST_PIECES = 64  # that what a client sends at once is cut into


@dataclass(frozen=True)
class Play:
    """What is checked: a module within a pipeline, and for which laws."""

    module: str
    filters: Sequence[str]
    storage: str | None
    options: Mapping[str, Any]
    laws: frozenset[str]


@dataclass
class Seen:
    """What came of a story, for clients, filters and storage."""

    received: dict[str, list[str | bytes]] = field(default_factory=dict)
    closed: dict[str, int | None] = field(default_factory=dict)
    left_by_chain: list[tuple[str, str | bytes]] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


class Stage:
    """A pipeline on which one story is played; used in a `with` block."""

    def __init__(self, play: Play, watch: Watch, cuts: Cuts | None = None) -> None:
        self.pipeline = Pipeline(*play.filters, storage=play.storage, **play.options)
        self.told: list[str] = []
        self.acts = 0  # sentences of the story itself, without its end, when all leave
        self.seen = Seen()
        self.laws = play.laws
        self.watch = watch
        self.cuts = cuts
        self.story = Story(())
        self._clients: dict[str, Client] = {}
        self._unwanted: set[str] = set()  # who was refused
        self._connections: list[tuple[UUID, weakref.ref[Any]]] = []
        self._names: dict[str, str] = {}  # whose id it is
        self._keys: set[Any] = set()  # of the storage
        self._judged = 0  # of the records of the log
        self._prepare()

    def _prepare(self) -> None:
        pipeline, server = self.pipeline, self.pipeline.server
        self.watch.begin(set(pipeline._modules), pipeline._loop.stop)
        pipeline._loop.set_default_executor(self.watch.executor())
        pipeline._loop.max_turns = MAX_TURNS
        for chain in self.chains():
            self.watch.watch_chain(chain)
        message_chain = server.message_chain
        message_chain.steps = (*message_chain.steps, ("the end of the chain", self._on_chain_end))
        kind, born = server._connection_class, self._connections

        class Connection(kind):  # type: ignore[misc, valid-type]
            __slots__ = ("__weakref__",)

            def __init__(self, factory: Any) -> None:
                super().__init__(factory)
                born.append((self.id, weakref.ref(self)))

        server._connection_class = Connection
        storage, keys = pipeline.storage_object, self._keys
        if callable(add := getattr(storage, "add", None)):

            def noted_add(key: Any, value: Any) -> Any:
                keys.add(key)
                return add(key, value)

            storage.add = noted_add

    def chains(self) -> list[Chain]:
        server = self.pipeline.server
        return [
            server.data_chain,
            server.handshake_chain,
            server.connect_chain,
            server.message_chain,
            server.disconnect_chain,
            server.consumer_chain,
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.playing():
            if not self.watch.is_stopped:
                self.pipeline.close()
        self.pipeline._end()

    # Playing

    def play(self, story: Story) -> Breach | None:
        """Play a story to its end, or until a law is broken; then return how."""
        breach = self.run(story)
        if breach is not None or self.watch.is_stopped:
            return breach
        self._look()
        self.acts = len(self.told)
        return self._end()

    def run(self, story: Story) -> Breach | None:
        """Play the steps of a story; return how a law is broken."""
        self.story = story
        steps = list(story.steps)
        while steps:
            step = steps.pop(0)
            together = [step]
            while self.cuts is not None and steps and _is_one_stream(step, steps[0]):
                together.append(steps.pop(0))
            with self.playing():
                self._play(together)
            breach = self.breach()
            if breach is not None or self.watch.is_stopped:
                return breach
        return None

    def _play(self, steps: list[Step]) -> None:
        if isinstance(steps[0], Send):
            messages = [step.message for step in steps if isinstance(step, Send)]
            self.send(steps[0].who, *messages)
        else:
            steps[0].play(self)

    def _end(self) -> Breach | None:
        """Let all clients leave; return how a law is broken by what is left of them."""
        with self.playing():
            self.leave_all()
        if breach := self.breach():
            return breach
        with self.playing():
            self.pipeline.advance(leaks.PATIENCE)
        return self.breach() or self._what_is_kept()

    @contextmanager
    def playing(self) -> Iterator[None]:
        try:
            with self.watch.playing():
                yield
        except RuntimeError as error:
            if "come to rest" not in str(error):
                raise
            self.watch.on_no_rest()
        except Interrupted:
            pass  # the watch has noted whose code it was

    def breach(self) -> Breach | None:
        """Return how a law was broken since this was called last."""
        if self.watch.breaches:
            return self.watch.breaches[0]
        records = self.pipeline.log[self._judged :]
        self._judged += len(records)
        if "exceptions" in self.laws:
            for record in records:
                if record.levelno >= ERROR and (breach := self._of_error(record)):
                    return breach
        return None

    def forget_errors(self) -> None:
        """Empty the log, whose tracebacks hold the connections of filters that failed."""
        self.pipeline.log.clear()
        self._judged = 0

    def _of_error(self, record: LogRecord) -> Breach | None:
        if not record.name.startswith((base.__package__.partition(".")[0], "asyncio")):
            return None
        error = record.exc_info[1] if record.exc_info else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        name = str(arguments[0]) if record.name == base.__name__ and arguments else ""
        where = self.watch.definitions.get(name, "")
        if error is not None:
            kind, text = type(error).__name__, text_of(error)
            module, where = place_of_error(error.__traceback__, self.watch.modules) or ("", where)
            who = f"the filter {name}" if name else f"something that {module} has started"
        elif name:
            who, kind, text = f"the filter {name}", *map(str, arguments[2:4])
        elif record.name.startswith("asyncio"):
            return None  # a task of an earlier pipeline, which has ended without it
        else:
            names = ", ".join(sorted(self.watch.ran))
            return Breach("exceptions", (f"of the filters {names}", record.getMessage()))
        if kind == Interrupted.__name__:
            return None
        did = text if text.startswith("returned ") else f"raised {kind}: {text}"
        return Breach("exceptions", (self.named(f"{who} {did}"), where))

    # What steps do

    def client(self, who: str) -> Client | None:
        """Return the client of this name, connected; None when the server does not want it."""
        client = self._clients.get(who)
        if client is None and who not in self._unwanted:
            self._connect(who)
            client = self._clients.get(who)
        return client if client is not None and client.is_open else None

    def _connect(self, who: str) -> None:
        ask = self.story.ask_of(who)
        number = len(self._connections) + 1
        peer = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        chunks = self._in_chunks(request(ask.path, ask.headers))
        self.told.append(f"{who} asked for a connection{ask}")
        try:
            client = self._clients[who] = self.pipeline.connect_with(chunks, peer)
        except Refused as refused:
            self._unwanted.add(who)
            how = f"with {refused.status}" if refused.status else "without an answer"
            self.told[-1] = f"{who} was refused{ask}{_number_of(chunks)}, {how}"
            return
        self.told[-1] = f"{who} connected{ask}{_number_of(chunks)}"
        self._names[str(client.connection.id)] = who
        key = f"{who}, {len(self.seen.received)}"
        self.seen.received[key] = client.received

    def send(self, who: str, *messages: str | bytes) -> None:
        """Send messages; with cuts, as one stream of bytes."""
        client = self.client(who)
        if client is None:
            return
        data, most = b"", 1
        for message in messages:
            payload = message.encode() if isinstance(message, str) else message
            opcode = TEXT if isinstance(message, str) else BINARY
            fragments = self._in_pieces(payload, self.cuts.fragment if self.cuts else None)
            data += message_frames(opcode, fragments)
            most = max(most, len(fragments))
        chunks = self._in_chunks(data)
        sent = " and ".join(map(shown, messages))
        in_fragments = f" in {most} fragments" if most > 1 else ""
        in_one_chunk = " in one chunk" if len(messages) > 1 and len(chunks) == 1 else ""
        self.told.append(f"{who} sent {sent}{in_fragments}{_number_of(chunks)}{in_one_chunk}")
        for chunk in chunks:
            client.send_raw(chunk)

    def send_raw(self, who: str, data: bytes) -> None:
        client = self.client(who)
        if client is not None:
            self.told.append(f"{who} sent {shown(data)}, which is no frame")
            for chunk in self._in_chunks(data):
                client.send_raw(chunk)

    def knock(self, data: bytes) -> None:
        """Send bytes without a handshake, and go."""
        self.told.append(f"somebody sent {shown(data)} without a handshake")
        transport = Transport(self.pipeline._loop, "10.0.0.0")
        first, *others = self._in_chunks(data)
        self.pipeline._loop.call_soon(self.pipeline._accept, transport, first)
        self.pipeline.advance(0)
        for chunk in others:
            transport.deliver(chunk)
            self.pipeline.advance(0)
        transport.abort()
        self.pipeline.advance(0)

    def leave(self, who: str, *, is_abrupt: bool) -> None:
        client = self._clients.pop(who, None)
        if client is None or not client.is_open:
            return
        self.told.append(f"{who} vanished" if is_abrupt else f"{who} left")
        if is_abrupt:
            client.vanish()
        else:
            client.close()
            if client.connection.transport is not None:  # its bytes did not look like a close frame
                client.vanish()

    def leave_all(self) -> None:
        """Let all clients leave; who comes again is a new client."""
        for who in list(self._clients):
            self.leave(who, is_abrupt=False)
        self._unwanted.clear()

    def put(self, item: Any) -> None:
        self.told.append(f"{shown(item)} was put on the queue")
        self.pipeline.put(deepcopy(item))

    def wait(self, seconds: float) -> None:
        self.told.append(f"{seconds:g} seconds passed")
        self.pipeline.advance(seconds)

    def _in_chunks(self, data: bytes) -> list[bytes]:
        return self._in_pieces(data, self.cuts.chunk if self.cuts else None)

    def _in_pieces(self, data: bytes, size: int | None) -> list[bytes]:
        size = max(size or len(data), len(data) // MOST_PIECES, 1)
        return [data[start : start + size] for start in range(0, max(len(data), 1), size)]

    # What comes of it

    def _on_chain_end(self, web_socket_instance: Any, data: Any) -> None:
        left = bytes(data) if data.is_binary else data.decode(errors="backslashreplace")
        self.seen.left_by_chain.append((str(web_socket_instance.id), left))

    def _look(self) -> None:
        """Note what there is to see, in which ids are replaced by names."""
        seen = self.seen
        for who, received in seen.received.items():
            seen.received[who] = [self.named(message) for message in received]
        seen.left_by_chain = [
            (self._names.get(id, ""), self.named(left)) for id, left in seen.left_by_chain
        ]
        seen.closed = {who: client.close_code for who, client in self._clients.items()}
        seen.stored = [f"{self.named(repr(key))}: {values}" for key, values in self._stored()]
        seen.stored.sort()

    def _stored(self) -> Iterator[tuple[Any, list[str]]]:
        for key in self._keys:
            values = self.pipeline.call(lambda key=key: self.pipeline.storage_object.get(key))  # type: ignore[misc]
            if values:
                yield key, sorted(self.named(repr(value)) for value in values)

    def named(self, data: Any) -> Any:
        """Replace the ids of connections, which no two plays have in common, by names."""
        if isinstance(data, bytes):
            return self.named(data.decode("latin-1")).encode("latin-1")
        for id, who in self._names.items():
            data = data.replace(id, f"<{who}>").replace(id.replace("-", ""), f"<{who}>")
        return data

    def _what_is_kept(self) -> Breach | None:
        """Return what is left of connections, which all are gone."""
        self._clients.clear()
        self.forget_errors()
        self.pipeline.call(gc.collect)  # tasks whose exception nobody has seen are logged now
        breach = self.breach()
        if breach or "leaks" not in self.laws:
            return breach
        self.forget_errors()
        for id, reference in self._connections:
            if reference() is not None:
                who = self._names.get(str(id), "somebody who was refused")
                holder = leaks.holder(self.pipeline._modules, self.pipeline._loop, reference)
                what = f"the connection of {who} is gone, and still kept{holder}"
                return Breach("leaks", (what, self._who_ran()))
        gone = {text for id, _ in self._connections for text in (str(id), id.hex)}
        for key in self._keys:
            values = self.pipeline.call(lambda key=key: self.pipeline.storage_object.get(key))  # type: ignore[misc]
            for value in (key, *(values or ())):
                if values and str(value) in gone:
                    who = self._names.get(str(value), "a client")
                    what = f"{who} is gone, and still in storage_object[{self.named(repr(key))}]"
                    return Breach("leaks", (what, self._who_ran()))
        return None

    def _who_ran(self) -> str:
        return f"the filters that ran: {', '.join(sorted(self.watch.ran))}"

    def sizes(self) -> dict[str, int]:
        """Return how much is kept, by the name of what keeps it."""
        storage = self.pipeline.storage_object
        sizes = leaks.sizes(self.pipeline._modules)
        sizes["the storage"] = self.pipeline.call(
            lambda: sum(1 + len(storage.get(key)) for key in self._keys if storage.get(key))
        )
        return sizes | self.pipeline.call(leaks.sizes_of_the_machinery)


def _number_of(chunks: Sequence[bytes]) -> str:
    return f" in {len(chunks)} chunks" if len(chunks) > 1 else ""


def _is_one_stream(step: Step, following: Step) -> bool:
    return isinstance(step, Send) and isinstance(following, Send) and step.who == following.who
