"""Send each published notification to all connections of the user it is for, and to nobody else."""

import json
from typing import Any

from filtered_websocket.filters import base
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory


class Join(base.WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        web_socket_instance.storage_object.add(web_socket_instance.token, web_socket_instance.id)


class Leave(base.WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        web_socket_instance.storage_object.remove(web_socket_instance.token, web_socket_instance.id)


class Notify(base.WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocketFactory, item: dict[str, Any]) -> None:
        if item["type"] == "gap":  # Redis was away for a while
            return
        notification = json.loads(item["data"])
        user = str(notification["to"])  # None as the group would mean everybody
        web_socket_instance.users.broadcast(str(notification["text"]), group=user)
