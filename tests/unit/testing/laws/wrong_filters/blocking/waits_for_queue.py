"""Wait for a queue that nobody fills."""

import queue

from filtered_websocket.filters.base import WebSocketMessageFilter

answers = queue.Queue()


class Answer(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        try:
            return answers.get(timeout=0.06)
        except queue.Empty:
            return None
