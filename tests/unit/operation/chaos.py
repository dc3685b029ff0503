"""Filters that do what the message says, for the ledgers: each its own letter of it."""

from __future__ import annotations

from typing import Any

from filtered_websocket.filters.base import DropMessage

LETTERS = "pppppppppppppppppppbbbbbsslllqrdfeca"  # how often each is chosen
PLACES = 4  # filters that read a letter


def act(connection: Any, letter: str) -> str | None:
    """Do what `letter` says; "p", or one that nothing knows, passes the message on."""
    if letter == "d":
        raise DropMessage
    if letter == "f":
        raise ValueError("as the message says")
    if letter == "e":
        raise SystemExit
    if letter == "b":
        connection.users.broadcast("to all but me", skip=connection.id)
        connection.users.broadcast("to all")
    elif letter == "s":
        connection.sendMessage("to me")
        connection.users.broadcast("to the first two", to=list(connection.users)[:2])
    elif letter == "c":
        connection.loseConnection(4000)
        connection.sendMessage("too late")
    elif letter == "l":
        for other in connection.users.values():
            other.sendMessage("to each " + "x" * 2000)
    elif letter == "a":
        connection.abortConnection()
    elif letter == "q":
        connection.queue.put("b")
    elif letter == "r":
        return "dfbp"
    return None


def letter_of(data: Any, place: int) -> str:
    """Return what the message says to the filter at `place`."""
    text = bytes(data).decode()
    return text[place] if place < len(text) else "p"
