"""Test the filters of this folder, without Redis: run `pytest` here."""

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from filtered_websocket.testing import Client, Pipeline, Refused

Start = Callable[..., Pipeline]
KEY = "a key for tests, of more than 32 bytes"


@pytest.fixture
def pipeline(fws_pipeline: Start, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("SIGNING_KEY", KEY)
    return fws_pipeline("check_token", "expire_token", "notifications", log_level="debug")


def token(key: str = KEY, **claims: Any) -> str:
    return jwt.encode({"sub": "ada", "exp": time.time() + 60} | claims, key, "HS256")


def connect(pipeline: Pipeline, token: str) -> Client:
    return pipeline.connect(headers={"Sec-WebSocket-Protocol": f"notifications, {token}"})


def notify(pipeline: Pipeline, **notification: Any) -> None:
    pipeline.put({"type": "message", "data": json.dumps(notification).encode()})


def test_a_notification_reaches_its_user_in_all_tabs_and_nobody_else(pipeline: Pipeline) -> None:
    ada_1, ada_2 = connect(pipeline, token()), connect(pipeline, token())
    bob = connect(pipeline, token(sub="bob"))
    notify(pipeline, to="ada", text="hello")
    notify(pipeline, to=None, text="to nobody, and not to all")
    assert ada_1.received == ada_2.received == ["hello"]
    ada_1.vanish()
    ada_2.send("clients are not heard")
    notify(pipeline, to="ada", text="again")
    assert ada_2.received == ["hello", "again"]
    assert bob.received == []


def test_only_a_valid_token_lets_in(pipeline: Pipeline) -> None:
    no_user = jwt.encode({"exp": time.time() + 60}, KEY, "HS256")
    for_ever = jwt.encode({"sub": "ada"}, KEY, "HS256")
    unsigned = jwt.encode({"sub": "ada", "exp": time.time() + 60}, "", "none")
    forged, expired = token(key="x" * 32), token(exp=time.time() - 1)
    for offered in ("", "nonsense", no_user, for_ever, unsigned, forged, expired):
        with pytest.raises(Refused) as refused:
            connect(pipeline, offered)
        assert (refused.value.status, refused.value.reason) == (403, "a valid token is needed")


def test_nothing_that_is_logged_or_answered_has_the_token(pipeline: Pipeline) -> None:
    valid, expired = token(), token(exp=time.time() - 1)
    client = connect(pipeline, valid)
    assert client.response_headers["sec-websocket-protocol"] == "notifications"
    with pytest.raises(Refused) as refused:
        connect(pipeline, expired)
    told = [client.response_headers, refused.value.headers, refused.value.reason]
    told += [record.getMessage() for record in pipeline.log]
    assert "a valid token is needed" in str(told)
    assert valid not in str(told) and expired not in str(told)


def test_the_connection_ends_with_the_token(pipeline: Pipeline) -> None:
    client, gone = connect(pipeline, token()), connect(pipeline, token())
    gone.vanish()
    pipeline.advance(58)
    assert client.is_open
    pipeline.advance(3)
    assert (client.close_code, client.close_reason) == (4001, "the token has expired")
    assert pipeline.errors == []
