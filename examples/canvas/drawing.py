"""Let through what is a piece of a drawing, and show newcomers what was drawn before.

A binary message is up to 64 lines of 9 bytes: x and y of both ends, 0 to 65535, and a colour.
"""

from struct import iter_unpack

from filtered_websocket.filters import base
from filtered_websocket.server import FilteredWebSocket

LINE, LINE_SIZE = ">HHHHB", 9
COLOURS = 6
MAX_LINES = 64  # of a message
MAX_DRAWING = 50_000 * LINE_SIZE  # bytes; what is older is forgotten

drawing = base.Message()
drawing.is_binary = True


class CheckLines(base.WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: base.Message) -> None:
        lines, rest = divmod(len(msg), LINE_SIZE)
        if not msg.is_binary or rest or not 1 <= lines <= MAX_LINES:
            raise base.DropMessage
        if any(colour >= COLOURS for *_, colour in iter_unpack(LINE, msg)):
            raise base.DropMessage
        drawing.extend(msg)
        del drawing[:-MAX_DRAWING]


class ShowDrawing(base.WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        web_socket_instance.sendMessage(drawing)
