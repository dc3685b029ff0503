"""Let in whoever shows a token that our web application has signed.

It comes as a subprotocol: the address of a request would end up in the logs of proxies.
"""

import os

import jwt

from filtered_websocket.filters.base import RejectHandshake, Request, WebSocketHandshakeFilter
from filtered_websocket.server import FilteredWebSocket

KEY = os.environ["SIGNING_KEY"]


class CheckToken(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, request: Request) -> None:
        try:
            subprotocol, token = request.subprotocols
            claims = jwt.decode(token, KEY, ["HS256"], options={"require": ["sub", "exp"]})
        except (ValueError, jwt.InvalidTokenError):
            raise RejectHandshake(403, "a valid token is needed") from None
        web_socket_instance.subprotocol = subprotocol  # the answer does not repeat the token
        web_socket_instance.token = claims["sub"]
        web_socket_instance.state["expires"] = int(claims["exp"])
