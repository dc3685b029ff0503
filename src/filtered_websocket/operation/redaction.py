"""What no line of the log may show: messages, tokens, cookies, queries, passwords.

The texts of errors are where they turn up: `int(msg)` fails with the message in its text. So what a
filter works on is looked for in the text of its error, whole and in parts. A word that is in the
source of the code that failed stays readable, since no client has brought it there.

What belongs here: what is secret, and hiding it in a text. What does not: which texts (`logs`).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from traceback import walk_tb
from types import CodeType, TracebackType
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

from ..typing import Request

__all__ = ["Secrets", "is_connection"]

LEAST = 4  # characters; what is shorter is everywhere
MAX_TEXT = 1000  # characters of an error's text
# Characters of one secret, and of all in all spellings, whose parts are looked for: it takes time.
MAX_SECRET = 8 * 1024
MAX_KNOWN = 64 * 1024

_word = re.compile(r"\w+")
_mark = re.compile("\0.\0")
_escape = re.compile(r"\\u([0-9a-fA-F]{4})")
_secret_header = re.compile("auth|cookie|token|secret|passw|session|key|protocol", re.I).search


class Secrets:
    """Know what must not be shown, and hide it."""

    def __init__(self) -> None:
        self._wholes: dict[str, str] = {}  # what each of them is
        self._texts: list[tuple[str, str]] = []
        self._known = 0
        self._source: set[str] = set()  # words

    def add(self, value: object, name: str) -> None:
        """Take text or bytes as a secret; `name` is what is shown for it, such as "the token"."""
        if isinstance(value, str | bytes | bytearray) and len(value) > MAX_SECRET:
            self._known += MAX_KNOWN + 1
            return
        if isinstance(value, bytes | bytearray):
            text = value.decode(errors="backslashreplace")
            forms = {repr(bytes(value))[2:-1]}
        elif isinstance(value, str | UUID):
            text, forms = str(value), set()
        else:
            return
        for meant in {text, text.strip(), _unescaped(text)}:
            encoded = meant.encode(errors="backslashreplace")
            forms |= {meant, repr(meant)[1:-1], ascii(meant)[1:-1], repr(encoded)[2:-1]}
        for form in forms:
            if len(form) >= LEAST:
                self._wholes.setdefault(form, name)
                self._texts.append((form.casefold(), name))
                self._known += len(form)

    def add_connection(self, connection: Any) -> None:
        """Take in what a client has shown to get in."""
        self.add(getattr(connection, "token", None), "the token")
        request = getattr(connection, "request", None)
        if isinstance(request, Request):
            self.add_request(request)

    def add_request(self, request: Request) -> None:
        """Take in the query, and the headers that hold secrets."""
        for cookie in request.cookies.values():
            self.add(cookie, "a cookie")
        for name, value in request.headers.items():
            if not _secret_header(name):
                continue
            self.add(value, f"the header {name}")
            scheme, _, credentials = value.partition(" ")
            self.add(credentials, f"the header {name}")
            if scheme.lower() == "basic":
                for secret in _basic(credentials):
                    self.add(secret, f"the header {name}")
        query = request.target.partition("?")[2]
        self.add(query, "the query")
        for pair in query.split("&"):
            raw = pair.partition("=")[2]
            self.add(raw, "the query")
            self.add(unquote_plus(raw), "the query")

    def add_data(self, data: Any) -> None:
        """Take in what a filter was given: a message, or an item of the queue."""
        if isinstance(data, dict):
            self.add(data.get("data"), "the message")
        elif isinstance(data, Request):
            self.add_request(data)
        else:
            self.add(data, "the message")

    def add_traceback(self, traceback: TracebackType | None) -> None:
        """Take in messages and connections in variables of the functions that failed.

        The words of their source are no parts of a secret from then on, only whole ones.
        """
        for frame, _ in walk_tb(traceback):
            for value in list(frame.f_locals.values()):
                if isinstance(value, bytes | bytearray):
                    self.add(value, "the message")
                elif is_connection(value):
                    self.add_connection(value)
            self._source |= _words_of(frame.f_code)

    def hide(self, text: str) -> str:
        """Return `text` with marks in place of secrets, cut to MAX_TEXT."""
        text = text[: MAX_TEXT + MAX_SECRET].replace("\0", "\\x00")
        shown: list[str] = []  # for the marks, which are one character between two NULs

        def mark(size: int, name: str) -> str:
            shown.append(f"…({size} characters of {name})")
            return f"\0{chr(0xE000 + len(shown))}\0"

        for whole in sorted(self._wholes, key=len, reverse=True):
            if whole in text:
                text = text.replace(whole, mark(len(whole), self._wholes[whole]))
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT]
            if text.count("\0") % 2:
                text = text[: text.rindex("\0")]
            text += "…"
        pieces, end = [], 0
        for start, stop, name in self._parts(text):
            pieces += [text[end:start], mark(stop - start, name)]
            end = stop
        text = "".join(pieces) + text[end:]
        return _mark.sub(lambda match: shown[ord(match[0][1]) - 0xE001], text)

    def _parts(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield where in `text` the longest parts of secrets are, from word to word."""
        words = list(_word.finditer(text))
        at = 0
        while at < len(words):
            start, stop, name, seen = words[at].start(), 0, "", at
            is_source = True
            while seen < len(words):
                in_source = words[seen][0].casefold() in self._source
                found = self._name_of(text[start : words[seen].end()], in_source)
                if not found:
                    break
                stop, name, is_source = words[seen].end(), found, is_source and in_source
                seen += 1
            if stop - start >= LEAST and not is_source:
                yield start, stop, name
                at = seen
            else:
                at += 1

    def _name_of(self, part: str, in_source: bool) -> str:
        if "\0" in part:
            return ""
        if self._known > MAX_KNOWN:
            return "" if in_source else "what may be the message"
        part = part.casefold()
        return next((name for text, name in self._texts if part in text), "")


def is_connection(value: object) -> bool:
    """Tell a connection from what else a function has in a variable."""
    return hasattr(type(value), "sendMessage")


def _words_of(code: CodeType) -> set[str]:
    """Return the words, in lower case, in constants and names of a function."""
    words = {name.casefold() for name in (*code.co_names, *code.co_varnames)}
    for constant in _constants(code.co_consts):
        words.update(_word.findall(constant.casefold()))
    return words


def _constants(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | frozenset):
        for item in value:
            yield from _constants(item)
    elif isinstance(value, CodeType):
        yield from _constants(value.co_consts)


def _unescaped(text: str) -> str:
    """Return `text` with the characters that the escapes of JSON stand for."""
    text = _escape.sub(lambda match: chr(int(match[1], 16)), text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _basic(credentials: str) -> Iterator[str]:
    """Yield the decoded credentials and the password in them (RFC 7617 section 2)."""
    try:
        decoded = b64decode(credentials).decode(errors="replace")
    except ValueError:
        return
    yield decoded
    yield decoded.partition(":")[2]
