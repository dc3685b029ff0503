"""Keep at most --group_size values under each key."""

from filtered_websocket.storage_objects import default


class StorageObject(default.StorageObject):
    @classmethod
    def parser(cls, parser):
        parser.add_argument("--group_size", type=int, default=100)
        return parser

    def add(self, key, value):
        if len(self.get(key) or ()) < self.options.group_size:
            super().add(key, value)
