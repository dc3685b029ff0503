"""Hiding what no line may show."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from types import TracebackType
from typing import Any
from uuid import UUID

import pytest

from filtered_websocket.operation.redaction import MAX_TEXT, Secrets
from filtered_websocket.typing import Message, Request

TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0"


def secrets(**values: Any) -> Secrets:
    secrets = Secrets()
    for name, value in values.items():
        secrets.add(value, f"the {name}")
    return secrets


def text_of_failure(function: Any, *arguments: Any) -> tuple[str, TracebackType | None]:
    try:
        function(*arguments)
    except Exception as error:
        return str(error), sys.exc_info()[2]
    raise AssertionError("it did not fail")


# Whole secrets


@pytest.mark.parametrize(
    "text",
    [
        "hello wörld",
        'it\'s "quoted"',
        "line\none \\ two",
        '{"name": "J\\u00f6rg", "smile": "\\ud83d\\ude00"}',
        "\x00\x01 control \x1b[31m",
        "=== !!! ===",
    ],
)
@pytest.mark.parametrize("kind", [str, str.encode, lambda text: Message(text.encode())])
def test_a_message_is_hidden_however_it_is_spelt(text: str, kind: Any) -> None:
    """As text, bytes or Message, shown by str, repr or ascii, also inside of a container."""
    known = secrets(message=kind(text))
    for shown in (
        *(text, repr(text), ascii(text), repr(text.encode()), str(Message(text.encode()))),
        *(str([text]), str(ValueError(text)), str(KeyError(text)), f"bad: {text}!"),
    ):
        hidden = known.hide(shown)
        assert "characters of the message)" in hidden
        assert not any(word in hidden for word in text.split() if len(word) >= 4)


def test_each_secret_has_its_name() -> None:
    """What stands there instead says what it was, and how long."""
    known = secrets(message=b"hello", token=TOKEN, id=UUID(int=5))
    assert known.hide(f"'hello' from {TOKEN}") == (
        f"'…(5 characters of the message)' from …({len(TOKEN)} characters of the token)"
    )
    assert known.hide(str(UUID(int=5))) == "…(36 characters of the id)"


def test_what_is_short_or_no_text_is_no_secret() -> None:
    """Three characters are everywhere, and other objects have a text of their own."""
    known = secrets(message=b"abc", token=5, other=None, thing=object())
    assert known.hide("abc 5 None object") == "abc 5 None object"


# Parts of them


def test_parts_are_hidden_from_word_to_word() -> None:
    """As long as can be found, of four characters and more, in any case of letters."""
    known = secrets(message=b'{"user": "anna", "note": "I am at home, call 555-1234"}')
    assert known.hide("no such user: 'Anna'") == (
        "no such …(4 characters of the message): '…(4 characters of the message)'"
    )
    assert known.hide("at home, call, I") == "…(13 characters of the message), I"
    assert known.hide("555-1234") == "…(8 characters of the message)"
    assert known.hide("all at once") == "all at once"


def test_the_value_of_an_escape_is_known() -> None:
    """What JSON writes as an escape is found by what it means."""
    known = secrets(message=b'{"name": "J\\u00f6rgen", "x": "\\ud83d\\ude00"}')
    assert "rgen" not in known.hide("no Jörgen")
    assert "rgen" not in known.hide(ascii("Jörgen"))


def test_words_of_the_source_stay() -> None:
    """A key that the filter itself names can be read; one of the message cannot."""

    def filter(message: bytes) -> Any:
        event = json.loads(message)
        return event["room"], event["people"][event["room"]]

    data = b'{"rooms": "room and people", "people": {"anna": 1}, "room": "secretroom"}'
    text, traceback = text_of_failure(filter, data)
    known, whole = secrets(message=data), secrets(message=b"room")
    for one in (known, whole):
        one.add_traceback(traceback)
    assert known.hide(text) == "'…(10 characters of the message)'"
    assert known.hide("'people'") == "'people'"
    assert "room" not in whole.hide("'room'"), "a whole one never"


def test_of_a_long_message_only_words_of_the_source_stay() -> None:
    """It would take too long to look for its parts."""

    def filter(message: bytes) -> None:
        raise ValueError("too long: " + message.decode())

    _, traceback = text_of_failure(filter, b"hello")
    known = secrets(message=b"x" * 100_000)
    known.add_traceback(traceback)
    assert known.hide("too long: words") == ("too long: …(5 characters of what may be the message)")
    assert known.hide("x" * 100_000) == "…(1000 characters of what may be the message)…"


def test_long_texts_are_cut() -> None:
    """An error of a megabyte is no line for a log; what is cut off is no loophole."""
    known = secrets(message=b"hello world")
    assert known.hide("ab " * 100_000) == ("ab " * MAX_TEXT)[:MAX_TEXT] + "…"
    for size in range(MAX_TEXT - 12, MAX_TEXT + 2):
        hidden = known.hide("." * size + "hello world" + "." * 100)
        assert "hello" not in hidden and "\0" not in hidden


# What is known of a client


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("tok=q1w2e3r4&name=Anna+M", "the query"),
        ("q1w2e3r4", "the query"),
        ("Anna M", "the query"),
        ("Anna+M", "the query"),
        ("c00kie-value", "a cookie"),
        (b64encode(b"joe:pass word").decode(), "the header Authorization"),
        ("joe:pass word", "the header Authorization"),
        ("pass word", "the header Authorization"),
        ("key-of-an-api", "the header X-Api-Key"),
        ("bearer, t0ken-in-protocol", "the header Sec-WebSocket-Protocol"),
        (TOKEN, "the token"),
    ],
)
def test_what_a_client_shows_to_get_in(shown: str, name: str) -> None:
    """The query, its values, cookies, credentials, and headers whose names tell of secrets."""

    class Connection:
        token = TOKEN
        request = Request(
            "GET",
            "/chat?tok=q1w2e3r4&name=Anna+M",
            {
                "Cookie": 'sid="c00kie-value"; short=1',
                "Authorization": f"Basic {b64encode(b'joe:pass word').decode()}",
                "X-Api-Key": "key-of-an-api",
                "Sec-WebSocket-Protocol": "bearer, t0ken-in-protocol",
                "User-Agent": "firefox of mine",
            },
        )

    known = Secrets()
    known.add_connection(Connection())
    assert known.hide(f"({shown})") == f"(…({len(shown)} characters of {name}))"
    assert known.hide("firefox of mine at /chat") == "firefox of mine at /chat"


@pytest.mark.parametrize(
    ("data", "is_hidden"),
    [
        (Message(b"payload"), True),
        ({"type": "message", "channel": b"news", "data": b"payload"}, True),
        ({"data": 5}, False),
        ("payload", True),
        (Request("GET", "/?payload"), True),
        (None, False),
        (["payload"], False),
    ],
)
def test_what_a_filter_was_given(data: Any, is_hidden: bool) -> None:
    """A message, an item with data, a request; of other items nothing is known."""
    known = Secrets()
    known.add_data(data)
    assert ("payload" not in known.hide("payload")) == is_hidden
    assert known.hide("news") == "news"


def test_what_failing_functions_hold() -> None:
    """Bytes and connections among their variables: for tasks, which no chain runs."""

    class Connection:
        token = TOKEN
        request = None

        def sendMessage(self) -> None: ...

    def task(msg: bytes, connection: Connection) -> None:
        raise ValueError(msg.decode() + connection.token)

    text, traceback = text_of_failure(task, b"payload", Connection())
    known = Secrets()
    known.add_traceback(traceback)
    assert "payload" not in known.hide(text) and TOKEN not in known.hide(text)
