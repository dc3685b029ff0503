"""Reading the request that opens a connection, and the answer that does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.exception import ProtocolError
from filtered_websocket.server_protocol.request import accept_response, parse_request
from filtered_websocket.typing import Request


@given(st.binary())
@example(b"")
@example(b"GET http://[::1 HTTP/1.1\r\nHost: a")
def test_any_bytes_are_a_request_or_refused(head: bytes) -> None:
    """Whatever a client sends, it is a Request or a ProtocolError with a status, nothing else."""
    try:
        request = parse_request(head)
    except ProtocolError as error:
        assert error.status in (400, 505)
    else:
        assert isinstance(request, Request)


@given(
    st.sampled_from(["GET", "POST", "get", "G(T", ""]),
    st.text(st.characters(max_codepoint=255), max_size=20) | st.from_regex(r"\w+://\[?[:\w]*\]?/"),
    st.sampled_from(["1.1", "1.0", "2.0", "x"]),
    st.lists(
        st.tuples(
            st.sampled_from(["Host", "Upgrade", "Cookie", "a b", "", "X\x00"]),
            st.text(st.characters(max_codepoint=255), max_size=10),
        )
    ),
)
def test_what_resembles_a_request_is_one_or_refused(
    method: str, target: str, version: str, headers: list[tuple[str, str]]
) -> None:
    """Requests with something odd at any place are read safely, or refused."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {text}" for name, text in headers)]
    try:
        request = parse_request("\r\n".join(lines).encode("latin-1", "replace"))
    except ProtocolError:
        return
    assert request.method == method
    assert request.target.startswith(("/", "*"))
    for name, value in request.headers.items():
        assert name.isprintable()
        assert not set(value) & set("\r\n\0")
        assert value == value.strip(" \t")


def test_a_request_is_read_in_full() -> None:
    """Method, target, headers and peer are there as the client sent them."""
    head = b"\r\nGET /chat?a=1 HTTP/1.1\r\nhost: a\r\nX:  b \t\r\nx:\r\nY: caf\xe9"
    request = parse_request(head, "192.0.2.1")
    assert (request.method, request.target, request.peer) == ("GET", "/chat?a=1", "192.0.2.1")
    assert request.headers["Host"] == "a"
    assert request.headers.getall("X") == ["b", ""]
    assert request.headers["Y"] == "café"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", "/"),
        ("//evil.example/a", "//evil.example/a"),
        ("http://localhost:9000/chat?a=1", "/chat?a=1"),
        ("WSS://localhost", "/"),
        ("*", "*"),
    ],
)
def test_targets(target: str, expected: str) -> None:
    """An absolute target, as a proxy sends it, means its path and query."""
    assert parse_request(f"GET {target} HTTP/1.1\r\nHost: a".encode()).target == expected


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Morgan", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET / HTTP/1.1 \r\nHost: a", 400),
        (b"GET / HTTP/2.0\r\nHost: a", 505),
        (b"GET /\xa0 HTTP/1.1\r\nHost: a", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a", 400),
        (b"GET /\x7f HTTP/1.1\r\nHost: a", 400),
        (b"GET chat HTTP/1.1\r\nHost: a", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: a", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost : a", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00", 400),
        (b"GET / HTTP/1.1\nHost: a", 400),
    ],
)
def test_malformed_requests(head: bytes, status: int) -> None:
    """What is no HTTP request, or could be read in two ways, is refused."""
    with pytest.raises(ProtocolError) as error:
        parse_request(head)
    assert error.value.status == status


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """However many blanks are around a value, and whatever is between them, it is found at once."""
    blanks = b" \t" * 4000
    request = parse_request(b"GET / HTTP/1.1\r\nHost:" + blanks + b"a \t b" + blanks)
    assert request.headers["Host"] == "a \t b"


def test_the_answer_of_the_rfc() -> None:
    """The key of RFC 6455 section 1.3 gets the accept value that is given there, and the rest."""
    request = Request("GET", "/", {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert accept_response(request, {"X": "é"}).decode("latin-1").split("\r\n") == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "X: é",
        "",
        "",
    ]
