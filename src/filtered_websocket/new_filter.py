"""Write the first version of a filter, and its test, for authors to change.

What belongs here: what is written, and what keeps it from being written. What does not: how filters
are found (`importer`).
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ["NewFilterError", "write_filter"]

FILTER = '''"""Turn each message into capitals: say here, in one line, what yours does."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class {class_name}(WebSocketMessageFilter):
    # The base class says when it runs: on each message that a client has sent. There are others for
    # handshakes, for connections that open or are gone, and for what other programs publish.

    @classmethod
    def filter(cls, web_socket_instance, msg):
        # web_socket_instance is the connection of the sender. It has an id, a dict for you (state),
        # all connections (users), sendMessage("text") to answer, and loseConnection() to end it.
        #
        # msg is a bytearray, of text or (msg.is_binary) not. What is returned is what the next
        # filter gets; nothing at all leaves msg as it is; raise DropMessage lets nobody have it.
        return msg.upper()
'''

TEST = '''"""What {name} does to messages: `pytest` runs this in memory, without a server."""


def test_a_message_arrives_in_capitals(fws_pipeline):
    pipeline = fws_pipeline("{name}", "broadcast_messages")
    alice, bob = pipeline.connect(), pipeline.connect()
    alice.send("hello")
    assert bob.received == ["HELLO"]
'''

NEXT = """{name}.py and test_{name}.py are written.
Run it:    fws_server -f {name} broadcast_messages  (and open http://localhost:9000/ in two tabs)
Test it:   pytest test_{name}.py  (pip install 'filtered_websocket[testing]' brings pytest)
Change it: {name}.py says what it gets and what it may do; restart the server to see what it does
"""


class NewFilterError(Exception):
    """Report why a filter was not written: what is in the way, and what would be right."""


def write_filter(name: str, folder: Path) -> str:
    """Write the module `name` with a filter, and its test, into `folder`; return what to do next.

    Raises NewFilterError, and then has written nothing.
    """
    _check_name(name)
    contents = {
        folder / f"{name}.py": FILTER.format(class_name=_class_name(name)),
        folder / f"test_{name}.py": TEST.format(name=name),
    }
    _check_that_nothing_is_in_the_way(name, folder, list(contents))
    written: list[Path] = []
    try:
        for path, content in contents.items():
            with open(path, "x", encoding="utf-8") as file:
                written.append(path)
                file.write(content)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise NewFilterError(f"{error.filename or path}: {error.strerror}") from None
    return NEXT.format(name=name)


def _check_name(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        better = re.sub(r"\W+", "_", name.removesuffix(".py")).strip("_")
        better = f"{better}_filter" if keyword.iskeyword(better) else better
        hint = f"; how about {better}?" if better.isidentifier() else ""
        raise NewFilterError(
            f"{name!r} is no name for a module: letters, digits and _, a letter first{hint}"
        )
    if name.startswith("test_") or name.endswith("_test") or name == "conftest":
        bare = name.removeprefix("test_").removesuffix("_test")
        hint = f"; how about {bare}_filter?" if bare.isidentifier() and bare != "conftest" else ""
        raise NewFilterError(f"pytest would take {name}.py for its own{hint}")
    if name in sys.stdlib_module_names:
        raise NewFilterError(
            f"Python has a module {name!r}, which would win; how about {name}_filter?"
        )
    if _spec(f"{__package__}.filters.{name}") is not None:
        raise NewFilterError(
            f"{name!r} is a filter that comes with the server; how about my_{name}?"
        )


def _check_that_nothing_is_in_the_way(name: str, folder: Path, paths: list[Path]) -> None:
    there = [path.name for path in paths if os.path.lexists(path)]
    if os.path.exists(folder / name / "__init__.py"):
        there.append(f"{name}{os.sep}")  # a package, which would win
    if there:
        verb = "is" if len(there) == 1 else "are"
        raise NewFilterError(f"{' and '.join(there)} {verb} there already: nothing was written")
    spec = _spec(name)
    if spec is not None and spec.origin is not None:
        raise NewFilterError(
            f"there is an installed module {name!r}, which would win ({spec.origin}); "
            f"how about my_{name}?"
        )


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _class_name(name: str) -> str:
    words = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return words if words.endswith("Filter") else f"{words}Filter"
