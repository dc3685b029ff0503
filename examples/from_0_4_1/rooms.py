"""`join NAME` enters a room; any other message goes to those in the sender's room."""

from filtered_websocket.filters.base import WebSocketDisconnectFilter, WebSocketMessageFilter


class RoomFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        rooms, me = web_socket_instance.storage_object, web_socket_instance.id
        if msg.startswith(b"join "):
            rooms.remove(web_socket_instance.token, me)
            web_socket_instance.token = msg[5:].decode()
            rooms.add(web_socket_instance.token, me)
        for user in rooms[web_socket_instance.token] or ():
            if user != me and user in web_socket_instance.users:
                web_socket_instance.users[user].sendMessage(msg)


class LeaveRoomFilter(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.storage_object.remove(web_socket_instance.token, web_socket_instance.id)
