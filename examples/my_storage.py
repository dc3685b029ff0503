"""Tell on standard output what is stored; --quiet_keys names keys that are not told."""

from filtered_websocket.storage_objects import default


class StorageObject(default.StorageObject):
    @classmethod
    def parser(cls, parser):
        parser.add_argument("--quiet_keys", nargs="*", default=[])
        return parser

    def add(self, key, value):
        super().add(key, value)
        if key not in self.options.quiet_keys:
            print(f"{key}: {len(self.get(key))} members")
