"""Run a program, and wait for what it says."""

import subprocess

from filtered_websocket.filters.base import WebSocketMessageFilter


class Run(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return subprocess.run(["true"], capture_output=True).stdout
