"""The opening handshake over the wire (RFC 6455 section 4.2), handshake filters, and origins."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from filtered_websocket.filters.base import WebSocketHandshakeFilter
from filtered_websocket.server_protocol.limits import Limits

from ..process import ServerProcess, told, wait_until
from .wire import (
    ACCEPT,
    KEY,
    TEXT,
    WAIT_FOR_GO,
    Frame,
    Peer,
    Start,
    ask,
    close_frame,
    frame,
    head,
    in_process,
    local_tls,
    save_filters,
)

ECHO = """
class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("echo")
    save_filters(folder, "echo", ECHO)
    server = ServerProcess(folder, "-f", "echo")
    yield server
    server.kill()


def handshake_filter(folder: Path, *lines: str, is_async: bool = False) -> None:
    """Save a handshake filter with this body as the module `door`."""
    body = "\n        ".join(lines)
    save_filters(
        folder,
        "door",
        f"""
{WAIT_FOR_GO}
class Door(WebSocketHandshakeFilter):
    @classmethod
    {"async " if is_async else ""}def filter(cls, web_socket_instance, request):
        {body}
{ECHO}""",
    )


# The request


def test_the_answer_proves_that_the_key_was_read(echo: ServerProcess) -> None:
    """The 101 has the accept value that RFC 6455 gives for its example key."""
    status, headers, _ = ask(echo.port, head())
    assert status == 101
    assert headers["sec-websocket-accept"] == ACCEPT
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert "sec-websocket-protocol" not in headers
    assert "sec-websocket-extensions" not in headers


@pytest.mark.parametrize(
    "request_head",
    [
        pytest.param(head(Upgrade="WebSocket", Connection="UPGRADE"), id="tokens in any case"),
        pytest.param(head(Connection="keep-alive, Upgrade"), id="Connection as Firefox sends it"),
        pytest.param(head(Connection="keep-alive\r\nConnection: Upgrade"), id="two Connections"),
        pytest.param(head(Upgrade="h2c, websocket"), id="several upgrades offered"),
        pytest.param(head().replace(b"Sec-WebSocket", b"sec-websocket"), id="names in lower case"),
        pytest.param(head().replace(b": ", b":\t "), id="space before values"),
        pytest.param(head().replace(b": ", b":"), id="no space before values"),
        pytest.param(head(X_Name="caf\xe9"), id="a value in latin-1"),
        pytest.param(head("http://localhost/chat?x=1"), id="absolute URI"),
        pytest.param(head("/caf%C3%A9%20au%20lait"), id="percent-encoded path"),
        pytest.param(head(Content_Length="0"), id="an empty body"),
        pytest.param(b"\r\n" + head(), id="an empty line before it"),
        pytest.param(head(Upgrade="h2c\r\nUPGRADE: WEBSOCKET"), id="two Upgrades"),
        pytest.param(head(Connection="close , UPGRADE,"), id="empty elements of a list"),
        pytest.param(head(Upgrade="websocket, websocket"), id="the same upgrade twice"),
        pytest.param(head("wss://user@localhost:1/?x#y"), id="absolute URI with everything"),
        pytest.param(head("HTTP://LOCALHOST"), id="absolute URI without a path"),
        pytest.param(head("/%00%ff%2e%2e%2f%0d%0a"), id="percent-encoded rubbish"),
        pytest.param(head("//localhost//chat"), id="a path that begins with two slashes"),
    ],
)
def test_unusual_but_correct_handshakes_are_accepted(
    echo: ServerProcess, request_head: bytes
) -> None:
    """What RFC 6455 and RFC 9112 allow opens the connection."""
    assert ask(echo.port, request_head).status == 101


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        pytest.param(head(Sec_WebSocket_Version=None), 426, id="no version"),
        pytest.param(head(Sec_WebSocket_Version="8"), 426, id="an old version"),
        pytest.param(head(Sec_WebSocket_Version="13, 8"), 426, id="two versions"),
        pytest.param(head(X="\r\nsec-websocket-version: 13"), 426, id="a version twice"),
        pytest.param(head(Sec_WebSocket_Version="+13"), 426, id="a version with a sign"),
        pytest.param(head(Sec_WebSocket_Key=None), 400, id="no key"),
        pytest.param(head(Sec_WebSocket_Key=""), 400, id="an empty key"),
        pytest.param(head(Sec_WebSocket_Key="c2hvcnQ="), 400, id="a short key"),
        pytest.param(head(Sec_WebSocket_Key="!" * 24), 400, id="a key that is not base64"),
        pytest.param(head(X=f"\r\nSec-WebSocket-Key: {KEY}"), 400, id="two keys"),
        pytest.param(head(Connection=None), 400, id="no Connection"),
        pytest.param(head(Connection="keep-alive"), 400, id="Connection without upgrade"),
        pytest.param(head(start="POST / HTTP/1.1"), 405, id="POST"),
        pytest.param(head(start="GET / HTTP/1.0"), 426, id="HTTP/1.0, where Upgrade is ignored"),
        pytest.param(head(start="GET / HTTP/2.0"), 505, id="HTTP/2.0"),
        pytest.param(head(start="GET chat HTTP/1.1"), 400, id="a target that is no path"),
        pytest.param(head(start="GET ftp://localhost/ HTTP/1.1"), 400, id="another scheme"),
        pytest.param(head(start="GET  / HTTP/1.1"), 400, id="two spaces"),
        pytest.param(head(start="hello"), 400, id="no HTTP"),
        pytest.param(b"\x00\xff\r\n\r\n", 400, id="bytes"),
        pytest.param(head(Host=None), 400, id="no Host"),
        pytest.param(head(X="\r\nHost: localhost"), 400, id="two Hosts"),
        pytest.param(head(X="1\r\n folded"), 400, id="a folded header"),
        pytest.param(head(X="a\x00b"), 400, id="NUL in a header"),
        pytest.param(head(X="a\nb"), 400, id="a bare line feed in a header"),
        pytest.param(head().replace(b"Host:", b"Host :"), 400, id="space before a colon"),
        pytest.param(head(X="1\r\nno colon"), 400, id="a header without a colon"),
        pytest.param(head(X="\r\nHOST:"), 400, id="another Host, empty"),
        pytest.param(head(X="\r\n\tHost: evil"), 400, id="a folded Host"),
        pytest.param(head().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400, id="bare line feeds"),
        pytest.param(head(X="a\rb"), 400, id="a bare carriage return in a header"),
        pytest.param(head().replace(b"/ ", b"/\x0b "), 400, id="a control byte in the target"),
        pytest.param(head(Content_Length="5") + b"hello", 400, id="a body"),
        pytest.param(head(Content_Length="0, 5"), 400, id="two lengths"),
        pytest.param(head(Content_Length="0\r\nContent-Length: 5"), 400, id="two lengths apart"),
        pytest.param(head(Content_Length="-1"), 400, id="a length below zero"),
        pytest.param(head(Content_Length="0x5"), 400, id="a length in hex"),
        pytest.param(head(Transfer_Encoding="chunked"), 400, id="a chunked body"),
        pytest.param(head(Transfer_Encoding="identity"), 400, id="another transfer coding"),
        pytest.param(head(Transfer_Encoding=""), 400, id="an empty transfer coding"),
        pytest.param(head(X="x" * 9000), 431, id="too large"),
        pytest.param(b"x" * 9000, 431, id="too large, without an end"),
    ],
)
def test_wrong_handshakes_get_the_status_that_tells_why(
    echo: ServerProcess, request_head: bytes, status: int
) -> None:
    """A request that must not open a connection is answered in HTTP and the connection ends."""
    answer = ask(echo.port, request_head)
    assert answer.status == status
    assert answer.body.strip()
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["connection"].lower().endswith("close")
    if status == 426:
        assert answer.headers["upgrade"] == "websocket"


def test_another_version_is_told_the_right_one(echo: ServerProcess) -> None:
    """The answer to an old client names version 13 (RFC 6455 section 4.4)."""
    answer = ask(echo.port, head(Sec_WebSocket_Version="8"))
    assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (head(Sec_WebSocket_Key=None), 400),
        (head(Content_Length=str(len(head()))), 400),
        (head(Transfer_Encoding="chunked"), 400),
    ],
)
def test_a_request_behind_the_first_is_not_answered(
    echo: ServerProcess, first: bytes, status: int
) -> None:
    """Whether it was smuggled in a body or pipelined: each connection answers one request."""
    assert ask(echo.port, first + head()).status == status


def test_a_request_behind_a_handshake_is_not_http(echo: ServerProcess) -> None:
    """What follows the request that opens a connection are frames, and these are none."""
    with Peer(echo.port) as peer:
        peer.open(head())
        assert peer.read_close() == 1002


@pytest.mark.slow
def test_refusals_are_told_once_per_reason_and_second(start_server: Start) -> None:
    """A hundred for two reasons cost few lines at info level, which count them all."""
    server = start_server("-f")
    for _ in range(100):
        ask(server.port, head(Sec_WebSocket_Key=None))
        ask(server.port, head(Host=None))

    def all_of(reason: str) -> bool:
        return told(server.stderr, f"refused: 400 {reason}") == 100

    wait_until(lambda: all_of("the header Sec-WebSocket-Key"), "all of one reason")
    wait_until(lambda: all_of("exactly one Host"), "all of the other")
    assert server.stderr.count("refused") < 40


def test_a_handshake_may_come_byte_by_byte(echo: ServerProcess) -> None:
    """The request is complete when its last byte is there, however it was cut."""
    with Peer(echo.port) as peer:
        for byte in head():
            peer.send(bytes((byte,)))
        assert peer.read_answer().status == 101


@pytest.mark.parametrize("size", [5, 200_000])
def test_frames_may_come_together_with_the_handshake(echo: ServerProcess, size: int) -> None:
    """Frames behind the request in the same packet are messages like all others."""
    messages = [bytes((letter,)) * size for letter in b"abc"]
    with Peer(echo.port) as peer:
        peer.open(*(frame(TEXT, message) for message in messages))
        assert [peer.read_frame().payload for _ in messages] == messages


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", head()[:-2]])
def test_a_handshake_that_takes_too_long_gets_408(empty_chains: None, sent: bytes) -> None:
    """A client that does not finish its request is answered and let go."""
    limits = Limits(handshake_timeout=0.1)
    answer = in_process(lambda port, _: ask(port, sent), limits=limits)
    assert answer.status == 408


def test_a_handshake_filter_that_takes_too_long_is_cancelled(empty_chains: None) -> None:
    """The time limit holds for the filters as well: the client gets 408, the filter ends."""
    events = []

    class Door(WebSocketHandshakeFilter):
        @classmethod
        async def filter(cls, web_socket_instance: object, request: object) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                events.append("ended")

    def scenario(port: int, _: object) -> int:
        status = ask(port, head()).status
        wait_until(lambda: events == ["ended"], "the end of the filter")
        return status

    assert in_process(scenario, limits=Limits(handshake_timeout=0.1)) == 408


def test_a_client_that_ignores_its_refusal_is_cut_off(empty_chains: None) -> None:
    """Who is refused cannot keep the connection by not closing it."""

    def scenario(port: int, _: object) -> bytes:
        with Peer(port) as peer:
            peer.send(b"nonsense\r\n\r\n")
            peer.read_to_end()
            wait_until(lambda: is_reset(peer), "the end of the connection")
            return b"cut off"

    assert in_process(scenario, limits=Limits(handshake_timeout=0.1)) == b"cut off"


def is_reset(peer: Peer) -> bool:
    try:
        peer.socket.send(b"x")
    except OSError:
        return True
    return False


# What handshake filters see


def test_the_request_is_told_to_filters(start_server: Start, tmp_path: Path) -> None:
    """Path, query, headers, cookies and peer can be read in the handshake and ever after."""
    save_filters(
        tmp_path,
        "tell",
        """
class Tell(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        r = web_socket_instance.request
        web_socket_instance.sendMessage(json.dumps([
            r.method, r.path, r.query, r.headers["x-NAME"], r.headers.getall("X-Many"),
            r.cookies, r.peer, r.subprotocols,
        ]))
""",
    )
    request = head(
        "/caf%C3%A9%20x?a=1&a=2&b=%26&empty=",
        X_Name="value",
        X_Many="1\r\nX-Many: 2",
        Cookie='session=abc=; theme="dark"; session=other',
        Sec_WebSocket_Protocol="chat, superchat",
    )
    with Peer(start_server("-f", "tell").port) as peer:
        peer.send(request)
        # A subprotocol that no filter chose is not answered.
        assert "sec-websocket-protocol" not in peer.read_answer().headers
        assert json.loads(peer.read_frame().payload) == [
            "GET",
            "/café x",
            {"a": "1", "b": "&", "empty": ""},
            "value",
            ["1", "2"],
            {"session": "abc=", "theme": "dark"},
            "127.0.0.1",
            ["chat", "superchat"],
        ]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_filter_chooses_subprotocol_and_headers(
    start_server: Start, tmp_path: Path, is_async: bool
) -> None:
    """What a handshake filter sets is part of the 101."""
    handshake_filter(
        tmp_path,
        "web_socket_instance.subprotocol = request.subprotocols[-1]",
        "web_socket_instance.response_headers['Set-Cookie'] = 'seen=1'",
        is_async=is_async,
    )
    request = head(Sec_WebSocket_Protocol="chat, superchat")
    answer = ask(start_server("-f", "door").port, request)
    assert answer.status == 101
    assert answer.headers["sec-websocket-protocol"] == "superchat"
    assert answer.headers["set-cookie"] == "seen=1"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "mistake",
    [
        "web_socket_instance.response_headers['X'] = 'a\\r\\nSet-Cookie: b=c'",
        "web_socket_instance.response_headers['X: y\\r\\nZ'] = 'a'",
        "web_socket_instance.response_headers['X'] = 1",
        "web_socket_instance.response_headers = None",
        "web_socket_instance.subprotocol = 'never offered'",
        "raise ValueError('crash')",
        "raise DropMessage",
        "return True",
        "raise SystemExit",
    ],
)
def test_a_handshake_filter_that_goes_wrong_lets_nobody_in(
    start_server: Start, tmp_path: Path, mistake: str, is_async: bool
) -> None:
    """A check that crashes, or an answer that cannot be sent, is a 500 and one log line."""
    handshake_filter(tmp_path, mistake, is_async=is_async)
    server = start_server("-f", "door")
    answer = ask(server.port, head())
    assert answer.status == 500
    assert "set-cookie" not in answer.headers
    assert server.stop() == 0
    assert server.stderr.count(" ERROR ") == 1
    assert "Fatal error" not in server.stderr


@pytest.mark.parametrize("is_async", [False, True])
def test_a_filter_refuses_with_its_own_status_reason_and_headers(
    start_server: Start, tmp_path: Path, is_async: bool
) -> None:
    """RejectHandshake is the whole answer that the client gets."""
    handshake_filter(
        tmp_path,
        "raise RejectHandshake(401, 'log in', {'WWW-Authenticate': 'Bearer'})",
        is_async=is_async,
    )
    answer = ask(start_server("-f", "door").port, head())
    assert (answer.status, answer.body) == (401, b"log in\n")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("status", [403, 426, 503])
def test_headers_of_a_refusal_replace_those_of_the_server(
    start_server: Start, tmp_path: Path, status: int
) -> None:
    """A refusal may choose its type, in any case; how long it is stays the server's to say."""
    headers = {"content-type": "application/json", "content-length": "50", "Retry-After": "9"}
    handshake_filter(tmp_path, f"raise RejectHandshake({status}, '[]', {headers})")
    answer = ask(start_server("-f", "door").port, head())
    assert (answer.status, answer.body) == (status, b"[]\n")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "9"


@pytest.mark.parametrize("value", ["'a\\r\\nSet-Cookie: b=c'", "1"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_refusal_cannot_be_used_to_inject_headers(
    start_server: Start, tmp_path: Path, value: str, is_async: bool
) -> None:
    """Headers of a refusal that are not valid HTTP are left out; the refusal stands."""
    door = f"raise RejectHandshake(403, 'no', {{'X-Name': {value}}})"
    handshake_filter(tmp_path, door, is_async=is_async)
    answer = ask(start_server("-f", "door").port, head())
    assert answer.status == 403
    assert "set-cookie" not in answer.headers
    assert "x-name" not in answer.headers


def test_a_message_sent_by_a_handshake_filter_arrives(start_server: Start, tmp_path: Path) -> None:
    """It waits until the connection is open."""
    handshake_filter(tmp_path, "web_socket_instance.sendMessage('welcome')")
    with Peer(start_server("-f", "door").port) as peer:
        peer.open(frame(TEXT, b"hello"))
        assert [peer.read_frame().payload for _ in range(2)] == [b"welcome", b"hello"]


def test_token_and_state_stay_with_the_connection(start_server: Start, tmp_path: Path) -> None:
    """What a handshake filter sets is there for the message filters."""
    handshake_filter(
        tmp_path,
        "web_socket_instance.token = request.query['token']",
        "web_socket_instance.state['name'] = request.query['name']",
    )
    save_filters(
        tmp_path,
        "who",
        """
class Who(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return f"{web_socket_instance.token} {web_socket_instance.state}"
""",
    )
    with Peer(start_server("-f", "who", "door").port) as peer:
        peer.send(head("/?token=blue&name=a") + frame(TEXT, b"who?"))
        assert peer.read_answer().status == 101
        assert peer.read_frame() == Frame(TEXT, b"blue {'name': 'a'}")


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("size", [5, 100_000])
def test_frames_wait_for_an_async_handshake_filter(
    start_server: Start, tmp_path: Path, size: int, with_tls: bool
) -> None:
    """What comes while a client is checked is neither lost nor taken for its request."""
    handshake_filter(tmp_path, "print('checks', flush=True)", "await wait_for_go()", is_async=True)
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    server = start_server("-f", "door", *options)
    messages = [letter * size for letter in (b"a", b"\r\n\r\n", b"b")]
    with Peer(server.port, tls=tls) as peer:
        peer.send(head() + b"".join(frame(TEXT, message) for message in messages))
        wait_until(lambda: "checks" in server.stdout, "the check")
        peer.send(frame(TEXT, b"late"))
        (tmp_path / "go").touch()
        assert peer.read_answer().status == 101
        assert [peer.read_frame().payload for _ in range(4)] == [*messages, b"late"]
    assert server.stdout == "checks\n"


def test_async_handshake_filters_run_side_by_side(start_server: Start, tmp_path: Path) -> None:
    """Fifty clients can be checked at the same time, and frames that they send early wait."""
    handshake_filter(
        tmp_path,
        "cls.here = getattr(cls, 'here', 0) + 1",
        "while cls.here < 50:",
        "    await asyncio.sleep(0.005)",
        is_async=True,
    )
    port = start_server("-f", "door").port
    peers = [Peer(port) for _ in range(50)]
    for number, peer in enumerate(peers):
        peer.send(head() + frame(TEXT, b"%d first" % number))
        peer.send(frame(TEXT, b"%d second" % number))
    for number, peer in enumerate(peers):
        with peer:
            assert peer.read_answer().status == 101
            assert peer.read_frame().payload == b"%d first" % number
            assert peer.read_frame().payload == b"%d second" % number


@pytest.mark.parametrize("leave", [Peer.__exit__, Peer.reset])
def test_a_client_may_leave_while_it_is_checked(
    start_server: Start, tmp_path: Path, leave: object
) -> None:
    """Nothing remains of it, and the others are served."""
    handshake_filter(tmp_path, "print('checks', flush=True)", "await wait_for_go()", is_async=True)
    save_filters(
        tmp_path,
        "count",
        """
class Count(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return str(len(web_socket_instance.users))
""",
    )
    server = start_server("-f", "count", "door")
    peer = Peer(server.port)
    peer.send(head())
    wait_until(lambda: "checks" in server.stdout, "the check")
    leave(peer)  # type: ignore[operator]
    (tmp_path / "go").touch()
    with Peer(server.port) as other:
        other.open()

        def is_alone() -> bool:
            other.send(frame(TEXT, b"how many?"))
            return other.read_frame().payload == b"1"

        wait_until(is_alone, "one user")
    assert server.stop() == 0
    assert " ERROR " not in server.stderr


# Origins


LOCAL, ELSEWHERE, CHAT = "http://localhost:3000", "https://evil.example", "https://chat.example"


@pytest.mark.parametrize(
    ("arguments", "host", "allowed", "refused"),
    [
        pytest.param(
            [],
            "localhost:9000",
            [None, LOCAL, "http://127.0.0.1", "https://[::1]:8", "http://app.localhost"],
            [ELSEWHERE, "null", "nonsense", "http://localhost.evil.example", ""],
            id="loopback names are one host",
        ),
        pytest.param(
            [], "evil.example", [None], [ELSEWHERE, "http://evil.example"], id="rebinding"
        ),
        pytest.param([], "127.0.0.1:9000", [LOCAL], [ELSEWHERE], id="an address as Host"),
        pytest.param(
            ["--origins", CHAT, "http://localhost:3000"],
            "localhost",
            [None, CHAT, "https://CHAT.example:443", LOCAL],
            ["http://chat.example", "https://chat.example:444", "http://localhost", "null"],
            id="a list",
        ),
        pytest.param(["--origins", "null"], "localhost", ["null"], [LOCAL, CHAT], id="null"),
        pytest.param(["--origins", "*"], "x", [None, LOCAL, ELSEWHERE, "null"], [], id="any"),
    ],
)
def test_only_allowed_pages_may_connect(
    start_server: Start,
    arguments: list[str],
    host: str,
    allowed: list[str | None],
    refused: list[str | None],
) -> None:
    """By default a page may reach its own host; --origins lists others, or opens to any."""
    server = start_server("-f", "broadcast_messages", *arguments)
    answers = {o: ask(server.port, head(Host=host, Origin=o)).status for o in allowed + refused}
    assert answers == dict.fromkeys(allowed, 101) | dict.fromkeys(refused, 403)


def test_a_public_server_takes_pages_of_its_own_host(empty_chains: None) -> None:
    """A server that others can reach allows the host that a page connects to, on any port."""
    expected = {
        ("chat.example:8443", CHAT): 101,
        ("CHAT.example.", CHAT): 101,
        ("chat.example", ELSEWHERE): 403,
        ("chat.example", "https://www.chat.example"): 403,
        ("chat.example", LOCAL): 403,
        ("localhost", LOCAL): 101,
    }

    def scenario(port: int, _: object) -> dict[tuple[str, str], int]:
        return {
            (host, origin): ask(port, head(Host=host, Origin=origin)).status
            for host, origin in expected
        }

    assert in_process(scenario, loopback_only=False) == expected


def test_a_refused_page_costs_one_log_line_that_names_the_option(start_server: Start) -> None:
    """The operator reads what to write to let the page in."""
    server = start_server("-f")
    assert ask(server.port, head(Origin=ELSEWHERE)).status == 403
    assert server.stop() == 0
    (line,) = [line for line in server.stderr.splitlines() if ELSEWHERE in line]
    assert f"--origins {ELSEWHERE}" in line


def test_the_origin_is_refused_before_any_filter_runs(start_server: Start, tmp_path: Path) -> None:
    """A page that may not connect cannot make a handshake filter work for it."""
    handshake_filter(tmp_path, "print('asked', flush=True)")
    server = start_server("-f", "door")
    ask(server.port, head(Origin=ELSEWHERE))
    with Peer(server.port) as peer:
        peer.open(close_frame(1000))
        assert peer.read_close() == 1000
    assert server.stop() == 0
    assert server.stdout == "asked\n"


def test_localhost_is_served_on_ipv6_too(echo: ServerProcess) -> None:
    """`localhost` finds the server by either address family."""
    with socket.create_connection(("::1", echo.port), timeout=5) as peer:
        peer.sendall(head())
        assert peer.recv(12) == b"HTTP/1.1 101"
