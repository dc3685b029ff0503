"""What filters receive and raise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.typing import Message, RejectHandshake, Request


def test_message_is_a_mutable_bytearray_with_a_type() -> None:
    """A message is text until told otherwise, and telling one does not tell all."""
    message = Message(b"Test")
    message.is_binary = True
    message.pop()
    assert message == b"Tes"
    assert not Message(b"other").is_binary


@pytest.mark.parametrize("status", [400, 403, 599])
def test_rejection_carries_its_answer(status: int) -> None:
    """Status, reason and headers are kept, the headers as a copy."""
    headers = {"Retry-After": "5"}
    rejection = RejectHandshake(status, "not now", headers)
    headers.clear()
    assert (rejection.status, rejection.reason) == (status, "not now")
    assert rejection.headers == {"Retry-After": "5"}


@pytest.mark.parametrize("status", [101, 200, 399, 600])
def test_rejection_needs_an_error_status(status: int) -> None:
    """A status that would not refuse the connection is a mistake of the filter's author."""
    with pytest.raises(ValueError, match=str(status)):
        RejectHandshake(status)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", {}),
        ("/chat%20room?key=a%26b", "/chat room", {"key": "a&b"}),
        ("/?a=1&a=2&b=&c", "/", {"a": "1", "b": "", "c": ""}),
        ("/a?b?c=d", "/a", {"b?c": "d"}),
        ("*", "*", {}),
    ],
)
def test_request_target_is_decoded(target: str, path: str, query: dict[str, str]) -> None:
    """Path and query come percent-decoded; of a repeated parameter, the first counts."""
    request = Request("GET", target)
    assert (request.path, request.query, request.target) == (path, query, target)


def test_headers_are_read_only_and_case_insensitive() -> None:
    """A header is found in any case, a repeated one in full with `getall`."""
    request = Request("GET", "/", [("X-Room", "a"), ("x-room", "b")])
    assert request.headers["X-ROOM"] == "a"
    assert request.headers.getall("x-room") == ["a", "b"]
    with pytest.raises(TypeError):
        request.headers["X-Room"] = "c"  # type: ignore[index]


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        ([], {}),
        (["a=1; b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=first; a=second"], {"a": "first"}),
        (['a="quoted"; b=x=y; rubbish; ='], {"a": "quoted", "b": "x=y", "": ""}),
    ],
)
def test_cookies(headers: list[str], cookies: dict[str, str]) -> None:
    """Cookies are read from all Cookie headers; of a repeated one, the first counts."""
    assert Request("GET", "/", [("Cookie", value) for value in headers]).cookies == cookies


def test_subprotocols_are_in_the_order_of_preference() -> None:
    """Offers may be spread over several headers and have spaces or empty places."""
    offers = ["chat.v2, chat.v1", " , json"]
    request = Request("GET", "/", [("Sec-WebSocket-Protocol", offer) for offer in offers])
    assert request.subprotocols == ["chat.v2", "chat.v1", "json"]


def test_repr_of_a_request_keeps_secrets() -> None:
    """Query and headers stay out of logs."""
    request = Request("GET", "/chat?key=secret", {"Cookie": "session=secret"}, "192.0.2.1")
    assert repr(request) == "<Request GET /chat from 192.0.2.1>"


@given(st.text(), st.text())
def test_whatever_a_client_sends_can_be_read(target: str, value: str) -> None:
    """No target and no header value makes reading a request raise."""
    request = Request("GET", target, {"Cookie": value, "Sec-WebSocket-Protocol": value})
    assert isinstance(request.path, str)
    assert isinstance(request.query, dict)
    assert isinstance(request.cookies, dict)
    assert all(request.subprotocols)
