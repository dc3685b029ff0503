"""From the first byte to an answer. What follows the 101 is tested with real sockets."""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from filtered_websocket.counters import Counters
from filtered_websocket.server_protocol.handshake import Acceptor, Connection, Handshake
from filtered_websocket.server_protocol.http import PlainPages
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.origins import OriginPolicy
from filtered_websocket.server_protocol.parser import ParserPool
from filtered_websocket.server_protocol.turns import Turns
from filtered_websocket.typing import RejectHandshake, Request
from filtered_websocket.users import Users

from .fakes import FakeTransport

GOOD = {
    "Host": "localhost:9000",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request_bytes(line: str = "GET / HTTP/1.1", **changes: str | None) -> bytes:
    """Return a good request with some headers changed, added or (None) left out."""
    headers = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    fields = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


# Answering a request


class FakeFactory:
    """A server whose connections decide on a handshake as the test says."""

    def __init__(self, decide: Callable[[Any], Any], wants_raw_data: bool) -> None:
        self.decide = decide
        self.wants_raw_data = wants_raw_data
        self.compresses = False
        self.counters = Counters()
        self.raw = b""
        self.tasks: list[asyncio.Task[None]] = []

    def buildProtocol(self, address: str) -> Any:
        factory = self

        class Decided(Connection):
            response_headers: dict[str, str] = {}
            subprotocol = None

            def onHandshake(self, request: Request) -> bool | Awaitable[bool]:
                return factory.decide(self)

            def dataReceived(self, data: bytes) -> None:
                factory.raw += data

        return Decided(Users(lambda flush: None), Limits(), ParserPool(1000), Turns())

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return self.tasks[-1]


def answer(
    *chunks: bytes,
    decide: Callable[[Any], Any] = lambda connection: False,
    wants_raw_data: bool = False,
    limits: Limits | None = None,
    visitors: Sequence[str] = (),
    then: Callable[[Handshake, FakeTransport, FakeFactory], None] | None = None,
) -> bytes:
    """Return what a server with clients from `visitors` answers to one that sends `chunks`."""

    async def main() -> bytes:
        factory, transport = FakeFactory(decide, wants_raw_data), FakeTransport()
        acceptor = Acceptor(
            factory,
            limits=limits or Limits(header_size=1000),
            origins=OriginPolicy(None, loopback_only=True),
            pages=PlainPages(console=False),
        )
        for address in visitors:
            acceptor.admission.enter(address)
        handshake = acceptor()
        handshake.connection_made(transport)  # type: ignore[arg-type]
        for chunk in chunks:
            handshake.get_buffer(-1)[: len(chunk)] = chunk
            handshake.buffer_updated(len(chunk))
        await asyncio.gather(*factory.tasks)
        if then is not None:
            then(handshake, transport, factory)
        acceptor.close()
        return transport.written

    return asyncio.run(main())


def status(answered: bytes) -> int | None:
    return int(answered.split()[1]) if answered else None


@pytest.mark.parametrize(
    ("request_head", "expected"),
    [
        (request_bytes("POST / HTTP/1.1"), 405),
        (request_bytes("GET / HTTP/1.1", Host=None), 400),
        (request_bytes("GET / HTTP/1.0", Sec_WebSocket_Key=None), 426),
        (request_bytes(Connection="keep-alive"), 400),
        (request_bytes(Sec_WebSocket_Version="8"), 426),
        (request_bytes(Sec_WebSocket_Version=None), 426),
        (request_bytes(Sec_WebSocket_Key=None), 400),
        (request_bytes(Sec_WebSocket_Key="short"), 400),
        (request_bytes(Sec_WebSocket_Key="AAAA"), 400),
        (request_bytes(Content_Length="5"), 400),
        (request_bytes(Transfer_Encoding="chunked"), 400),
        (request_bytes(Origin="https://evil.example"), 403),
        (request_bytes(Upgrade=None, Sec_WebSocket_Key=None), 426),
        (request_bytes("GET /health HTTP/1.1", Upgrade=None, Sec_WebSocket_Key=None), 200),
        (request_bytes(X="a" * 1000), 431),
        (request_bytes(X="a" * (1000 - len(request_bytes(X="")))), 500),
        (request_bytes(X="a" * (1001 - len(request_bytes(X="")))), 431),
        (request_bytes(X="a" * (1004 - len(request_bytes(X="")))), 431),
        (b"a" * 1001, 431),
        (b"a" * 1000, None),
        (b"Morgan\r\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_a_client_gets(request_head: bytes, expected: int | None, bytewise: bool) -> None:
    """Each mistake has its status, however the request is cut into chunks; it is answered once."""
    size = 1 if bytewise else 10_000
    chunks = [request_head[i : i + size] for i in range(0, len(request_head), size)]
    answered = answer(*chunks)
    assert status(answered) == expected
    assert answered.count(b"HTTP/1.1 ") == (expected is not None)
    if expected == 426:
        assert b"\r\nUpgrade: websocket\r\n" in answered


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Content_Length": "0"},
    ],
)
def test_a_good_request_reaches_the_filters(changes: dict[str, str]) -> None:
    """A correct handshake, in any correct spelling, is asked about."""
    seen: list[Request] = []
    answer(request_bytes(**changes), decide=lambda c: seen.append(c.request) or False)
    assert [request.path for request in seen] == ["/"]
    assert seen[0].peer == "192.0.2.1"


async def eventually(result: Any) -> bool:
    await asyncio.sleep(0)
    if isinstance(result, Exception):
        raise result
    return bool(result)


def at_once(result: Any) -> bool:
    if isinstance(result, Exception):
        raise result
    return bool(result)


@pytest.mark.parametrize("when", [at_once, eventually])
@pytest.mark.parametrize(
    ("result", "expected", "body"),
    [
        (False, 500, "the server could not check this connection"),
        (RejectHandshake(401, "who are you?"), 401, "who are you?"),
        (RejectHandshake(503, "żółw", {"Retry-After": "5"}), 503, "żółw"),
    ],
)
def test_filters_may_refuse(when: Any, result: Any, expected: int, body: str) -> None:
    """A rejection is answered as it says, a chain that failed with 500; async filters too."""
    answered = answer(request_bytes(), decide=lambda connection: when(result))
    assert status(answered) == expected
    assert answered.endswith(f"\r\n\r\n{body}\n".encode())
    assert (b"\r\nRetry-After: 5\r\n" in answered) == (expected == 503)


@pytest.mark.parametrize("headers", [{"X": "a\r\nSet-Cookie: b"}, {"X": 5}])
def test_a_rejection_with_rubbish_headers(headers: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A header that would break the answer is left out and logged; the client is refused."""
    decision = RejectHandshake(403, "no", headers)
    answered = answer(request_bytes(), decide=lambda connection: at_once(decision))
    assert status(answered) == 403
    assert b"X:" not in answered
    assert b"Set-Cookie" not in answered
    assert "a handshake filter set what cannot be sent: header 'X'" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"response_headers": {"X": "a\r\nb"}},
        {"response_headers": {"a b": "c"}},
        {"response_headers": {"X": 5}},
        {"response_headers": {5: "X"}},
        {"subprotocol": "not-offered"},
    ],
)
def test_filters_that_set_what_cannot_be_sent(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A response that would break the protocol is a 500 and a logged error."""

    def decide(connection: Any) -> bool:
        for name, value in change.items():
            setattr(connection, name, value)
        return True

    assert status(answer(request_bytes(), decide=decide)) == 500
    assert "a handshake filter set what cannot be sent" in caplog.text


def test_a_refused_page_is_logged_with_the_way_in(caplog: pytest.LogCaptureFixture) -> None:
    """One line names the origin and the option that lets it in."""
    caplog.set_level(logging.INFO)
    answer(request_bytes(Origin="https://chat.example"))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "--origins https://chat.example" in record.getMessage()


@pytest.mark.parametrize("header", ["X-Forwarded-For", "forwarded"])
def test_a_proxy_that_is_not_trusted_is_hinted_at(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose clients count as one has an option to look at; a client without a proxy has not."""
    caplog.set_level(logging.INFO)
    for headers in ({header: "for=192.0.2.2"}, {}):
        request = request_bytes(**headers)
        answer(request, limits=Limits(connections_per_address=1), visitors=("192.0.2.1",))
    hinted, plain = (record.getMessage() for record in caplog.records)
    assert hinted.startswith(plain) and "refused: 429 " in plain
    assert "--trusted_proxies" in hinted and "--trusted_proxies" not in plain


def test_tls_where_none_is_spoken_is_refused_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The client need not wait for the time limit, and the operator sees what it was."""
    caplog.set_level(logging.INFO)
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, False, "localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    assert status(answer(hello.read())) == 400
    (record,) = caplog.records
    assert "this is TLS" in record.getMessage() and "-key" in record.getMessage()


def test_raw_data_is_seen_before_and_after_an_answer() -> None:
    """A data chain gets every chunk, garbage included, whatever becomes of the connection."""

    def then(handshake: Handshake, transport: FakeTransport, factory: FakeFactory) -> None:
        assert factory.raw == b"Morgan\r\n\r\nmore"
        assert transport.eof_sent

    answer(b"Morgan\r\n", b"\r\n", b"more", wants_raw_data=True, then=then)


@pytest.mark.parametrize("chunks", [[], [b"GET / HT"]])
def test_a_slow_client_is_told(chunks: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    """Who sends no whole request in time gets 408, and is cut off when it does not leave."""
    caplog.set_level(logging.INFO)

    def then(handshake: Handshake, transport: FakeTransport, factory: FakeFactory) -> None:
        handshake.time_out()
        assert not transport.aborted
        handshake.time_out()
        assert transport.aborted

    assert status(answer(*chunks, then=then)) == 408
    assert "the request was not whole" in caplog.text


def test_who_is_not_open_yet_is_cut_off_at_the_stop() -> None:
    """Closing the acceptor ends the handshakes that are under way."""
    transports: list[FakeTransport] = []
    answer(b"GET", then=lambda handshake, transport, factory: transports.append(transport))
    assert transports[0].aborted


# What must not harm others


class Vanished(FakeTransport):
    """A socket whose peer has reset it, as plain asyncio tells of it."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


def test_a_client_that_is_gone_before_it_is_refused() -> None:
    """That nobody is there to get the answer is no error."""

    def refuse_another(handshake: Handshake, transport: FakeTransport, factory: Any) -> None:
        gone = Vanished()
        another = handshake._acceptor()
        another.connection_made(gone)  # type: ignore[arg-type]
        another.time_out()
        assert status(gone.written) == 408

    answer(then=refuse_another)


@pytest.mark.parametrize("body", [lambda _: False, lambda _: eventually(False)])
def test_a_connection_that_is_refused_keeps_nothing(body: Any) -> None:
    """What filters sent before the refusal is forgotten; what they send after it is dropped."""
    refused: list[Connection] = []

    def decide(connection: Connection) -> Any:
        connection.sendMessage(b"welcome")
        refused.append(connection)
        return body(connection)

    def send_more(*_: object) -> None:
        refused[0].sendMessage(b"too late")
        assert refused[0]._early is None

    assert status(answer(request_bytes(), decide=decide, then=send_more)) == 500


def test_who_comes_after_the_stop_is_cut_off() -> None:
    """A connection whose TLS handshake ends after the server has begun to stop is not served."""

    def connect_late(handshake: Handshake, transport: FakeTransport, factory: FakeFactory) -> None:
        acceptor, late = handshake._acceptor, FakeTransport()
        acceptor.close()
        acceptor().connection_made(late)  # type: ignore[arg-type]
        assert late.aborted

    answer(then=connect_late)


def test_one_timer_serves_all_handshakes() -> None:
    """However many have timed out, and wait for their clients to close, one timer is left."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        acceptor = Acceptor(
            FakeFactory(lambda _: True, False),
            limits=Limits(handshake_timeout=0.2),
            origins=OriginPolicy(None, loopback_only=True),
            pages=PlainPages(console=False),
        )
        transports = [FakeTransport() for _ in range(20)]
        for transport in transports:
            acceptor().connection_made(transport)  # type: ignore[arg-type]
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.3)
        timers = [repr(timer) for timer in loop._scheduled]  # type: ignore[attr-defined]
        acceptor.close()
        return sum("_sweep" in timer for timer in timers)

    assert asyncio.run(main()) == 1


def test_newcomers_are_handshakes_that_have_just_begun() -> None:
    """One that has been silent for longer is none, and nobody is none either."""

    async def main() -> list[bool]:
        acceptor = Acceptor(
            FakeFactory(lambda _: True, False),
            limits=Limits(),
            origins=OriginPolicy(None, loopback_only=True),
            pages=PlainPages(console=False),
        )
        found = [acceptor.has_newcomers(60.0)]
        acceptor().connection_made(FakeTransport())  # type: ignore[arg-type]
        found += [acceptor.has_newcomers(60.0), acceptor.has_newcomers(0.0)]
        acceptor.close()
        return found

    assert asyncio.run(main()) == [False, True, False]


def test_a_client_is_answered_once() -> None:
    """A filter that rejects a connection after its time was up does not answer a second time."""

    async def too_late() -> bool:
        try:
            return await asyncio.Future[bool]()
        except asyncio.CancelledError:
            raise RejectHandshake(403, "no") from None

    async def main() -> bytes:
        factory, transport = FakeFactory(lambda _: too_late(), False), FakeTransport()
        acceptor = Acceptor(
            factory,
            limits=Limits(handshake_timeout=0),
            origins=OriginPolicy(None, loopback_only=True),
            pages=PlainPages(console=False),
        )
        handshake = acceptor()
        handshake.connection_made(transport)  # type: ignore[arg-type]
        request = request_bytes()
        handshake.get_buffer(-1)[: len(request)] = request
        handshake.buffer_updated(len(request))
        await asyncio.wait_for(asyncio.gather(*factory.tasks), 5)
        acceptor.close()
        return transport.written

    answered = asyncio.run(main())
    assert status(answered) == 408
    assert answered.count(b"HTTP/1.1 ") == 1


def test_a_reason_that_no_text_can_carry() -> None:
    """A reason with half a surrogate pair still is an answer with the status."""

    def decide(connection: Connection) -> bool:
        raise RejectHandshake(403, "\ud800")

    assert status(answer(request_bytes(), decide=decide)) in (403, 500)
