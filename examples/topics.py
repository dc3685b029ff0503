"""Let clients follow topics: `follow NAME`, then `NAME text` reaches all who follow NAME."""

from filtered_websocket.filters.base import WebSocketDisconnectFilter, WebSocketMessageFilter


class TopicFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        word, _, rest = msg.decode(errors="replace").partition(" ")
        if word == "follow":
            web_socket_instance.state.setdefault("topics", set()).add(rest)
            web_socket_instance.storage_object.add(rest, web_socket_instance.id)
        else:
            web_socket_instance.users.broadcast(rest, skip=web_socket_instance.id, group=word)


class UnfollowFilter(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        for topic in web_socket_instance.state.get("topics", ()):
            web_socket_instance.storage_object.remove(topic, web_socket_instance.id)
