"""Close a connection when its token expires: it was checked at the handshake only."""

import asyncio
import time

from filtered_websocket.filters.base import WebSocketConnectFilter, WebSocketDisconnectFilter
from filtered_websocket.server import FilteredWebSocket


class StartTimer(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        seconds = web_socket_instance.state["expires"] - time.time()
        web_socket_instance.state["timer"] = asyncio.get_running_loop().call_later(
            seconds, web_socket_instance.loseConnection, 4001, "the token has expired"
        )


class CancelTimer(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        web_socket_instance.state["timer"].cancel()
