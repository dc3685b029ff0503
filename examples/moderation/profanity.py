"""Drop messages with a word that is not for this chat, and tell their sender."""

import re
from unicodedata import normalize

from filtered_websocket.filters.base import DropMessage, Message, WebSocketMessageFilter
from filtered_websocket.server import FilteredWebSocket

WORDS = ("blast", "crikey", "darn", "heck")
has_profanity = re.compile(rf"\b(?:{'|'.join(map(re.escape, WORDS))})\b", re.IGNORECASE).search


class Profanity(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: Message) -> None:
        # NFKC: full-width letters and the like are letters too.
        if has_profanity(normalize("NFKC", msg.decode(errors="replace"))):
            web_socket_instance.sendMessage("mind your language")
            raise DropMessage
