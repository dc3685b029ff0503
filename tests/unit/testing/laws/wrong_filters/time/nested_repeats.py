"""Check words with a regex that backtracks for ever."""

import re

from filtered_websocket.filters.base import DropMessage, WebSocketMessageFilter

words = re.compile(rb"(\w+\s?)+$").fullmatch


class Words(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if not words(msg):
            raise DropMessage
