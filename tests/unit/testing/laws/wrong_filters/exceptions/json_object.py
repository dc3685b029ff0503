"""Take all JSON for an object."""

import json

from filtered_websocket.filters.base import DropMessage, WebSocketMessageFilter


class JsonText(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        try:
            content = json.loads(msg)
        except ValueError:
            raise DropMessage from None
        return str(content["text"])
