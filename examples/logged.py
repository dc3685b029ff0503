"""Log who enters which room; messages that are no JSON are the client's mistake."""

import json
import logging

from filtered_websocket.filters.base import WebSocketMessageFilter

logger = logging.getLogger(__name__)


class EnterFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        event = json.loads(msg)
        web_socket_instance.state["room"] = event["room"]
        logger.info("entered room %s", event["room"])
