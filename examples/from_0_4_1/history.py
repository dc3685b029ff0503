"""Keep all messages in a list of Redis."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class HistoryFilter(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        redis = web_socket_instance.storage_object.get_client()
        await redis.rpush("history", bytes(msg))
