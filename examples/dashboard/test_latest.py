"""Test latest.py: run `pytest` here."""

import json
from collections.abc import Callable
from typing import Any

from filtered_websocket.testing import Client, Pipeline

Start = Callable[..., Pipeline]


def publish(pipeline: Pipeline, data: bytes) -> None:
    pipeline.put({"type": "message", "pattern": None, "channel": b"global", "data": data})


def metrics(client: Client) -> list[Any]:
    return [json.loads(message) for message in client.received]


def test_each_value_reaches_all_and_the_latest_also_who_comes_later(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("latest", "broadcast_pubsub")
    early = pipeline.connect()
    publish(pipeline, b'{"name": "load", "value": 1}')
    publish(pipeline, b'{"name": "load", "value": 2.5}')
    late = pipeline.connect()
    assert metrics(early) == [{"name": "load", "value": 1}, {"name": "load", "value": 2.5}]
    assert metrics(late) == [{"name": "load", "value": 2.5}]


def test_what_is_no_metric_reaches_nobody(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("latest", "broadcast_pubsub")
    client, other = pipeline.connect(), pipeline.connect()
    for data in (b"\xff", b"[]", b'{"name": "x"}', b'{"name": "x", "value": NaN}'):
        publish(pipeline, data)
    publish(pipeline, json.dumps({"name": "x", "value": 10**400}).encode())
    publish(pipeline, json.dumps({"name": 41 * "x", "value": 1}).encode())
    pipeline.put({"type": "gap", "seconds": 1.0, "channels": [b"global"]})
    other.send("a client has nothing to say")
    assert (client.received, pipeline.errors) == ([], [])


def test_the_number_of_metrics_is_bounded(fws_pipeline: Start) -> None:
    pipeline = fws_pipeline("latest", "broadcast_pubsub")
    for number in range(200):
        publish(pipeline, json.dumps({"name": str(number), "value": number}).encode())
    assert len(pipeline.connect().received) == 100
