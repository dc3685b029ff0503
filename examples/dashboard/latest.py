"""Remember the latest value of each metric, for the clients that come later."""

import json
from math import isfinite
from typing import Any

from filtered_websocket.filters import base
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory

MAX_METRICS, MAX_NAME = 100, 40
latest: dict[str, str] = {}


class RememberLatest(base.WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocketFactory, item: dict[str, Any]) -> None:
        try:
            metric = json.loads(item["data"])
            name, value = str(metric["name"]), float(metric["value"])
        except (ValueError, TypeError, KeyError, OverflowError):
            raise base.DropMessage from None  # no metric: others may publish here too
        is_new = name not in latest
        if not isfinite(value) or len(name) > MAX_NAME or (is_new and len(latest) >= MAX_METRICS):
            raise base.DropMessage
        latest[name] = item["data"] = json.dumps({"name": name, "value": value})


class SendLatest(base.WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        for metric in latest.values():
            web_socket_instance.sendMessage(metric)


class Listen(base.WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: base.Message) -> None:
        raise base.DropMessage  # a dashboard has nothing to say
