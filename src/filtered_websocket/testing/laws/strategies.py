"""What is drawn at random: messages, requests, items, and stories made of them."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .story import Ask, Connect, Cuts, Knock, Leave, Put, Send, SendRaw, Step, Story, Wait

__all__ = [
    "Words",
    "asks",
    "cuts",
    "given_asks",
    "items",
    "messages",
    "stories",
    "stories_of_commands",
    "words_of",
]

WHO = ("alice", "bob", "carol")
USUAL = ("", b"", b"\xff", "\x00", " ", "é", "0", "-1", "null", "[]", "{}", b"\x80 \xc3")
"""What breaks most filters that can be broken."""

CUTS = tuple(
    Cuts(fragment, chunk)
    for fragment, chunk in (
        (None, 1),
        (None, None),
        (1, None),
        (None, 3),
        (None, 5),
        (2, None),
        (1, 1),
        (3, 7),
    )
)
MOST_STEPS = 8
MOST_WORDS = 40
MOST_COMMANDS = 10
LONGEST_WORD = 40  # characters
COMPARISONS = {
    "startswith",
    "endswith",
    "removeprefix",
    "removesuffix",
    "split",
    "partition",
    "find",
}
LOOK_UPS = {"get", "pop", "setdefault", "getall"}
WAITS = (0.1, 1.0, 30.0, 3600.0)  # seconds
TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9-]*").fullmatch  # what may be the name of a header
SPECIAL_HEADERS = {"host", "upgrade", "connection", "origin", "content-length", "transfer-encoding"}


@dataclass(frozen=True)
class Words:
    """What is written in the source of a filter: `texts` are all of it, the others have a use.

    `commands` are compared with, `keys` looked up, `patterns` are regexes, str or bytes. It
    `has_requests` when it looks at those of connections.
    """

    texts: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    patterns: tuple[str | bytes, ...] = ()
    has_requests: bool = False


def words_of(modules: Iterable[ModuleType]) -> Words:
    """Return the words that a filter may look for, so that clients can send them."""
    texts: dict[str, None] = {}
    commands: dict[str, None] = {}
    keys: dict[str, None] = {}
    patterns: dict[str | bytes, None] = {}
    has_requests = False
    for module in modules:
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError, SyntaxError):
            continue
        nodes = list(ast.walk(tree))
        documentation = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
        texts.update(_texts(n for n in nodes if id(n) not in documentation))
        for node in nodes:
            if isinstance(node, ast.Compare | ast.Dict | ast.MatchValue):
                commands.update(_texts(ast.walk(node)))
            elif isinstance(node, ast.Attribute):
                has_requests |= node.attr == "request"
            elif isinstance(node, ast.Subscript):
                keys.update(_texts([node.slice]))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                    patterns.update(dict.fromkeys(_patterns(node.args[:1])))
                elif node.func.attr in LOOK_UPS:
                    keys.update(_texts(node.args[:1]))
                elif node.func.attr in COMPARISONS:
                    commands.update(_texts(part for a in node.args for part in ast.walk(a)))
    return Words(
        tuple(texts)[:MOST_WORDS], tuple(commands), tuple(keys), tuple(patterns), has_requests
    )


def _texts(nodes: Iterable[ast.AST]) -> dict[str, None]:
    found: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, ast.Constant):
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str) and 0 < len(value) <= LONGEST_WORD and _is_text(value):
                found[value] = None
    return found


def _patterns(nodes: Iterable[ast.AST]) -> Iterator[str | bytes]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            with suppress(re.error):
                re.compile(node.value)
                yield node.value


def messages(words: Words, command: str | None = None) -> SearchStrategy[str | bytes]:
    """Draw any message, and often one that has to do with the words of a filter.

    With a `command`, most of them begin with it.
    """
    texts = st.sampled_from((*words.texts, ""))
    numbers = st.one_of(st.integers(), st.floats()).map(str)
    more = _weighted((2, st.text(st.characters(codec="ascii"), max_size=4)), (1, st.text()))
    rest = _weighted((3, more), (1, numbers), (1, texts))
    commands = st.sampled_from(words.commands or words.texts or ("",))
    told = st.builds("".join, st.tuples(commands, st.sampled_from(["", " "]), rest))
    choices: list[tuple[int, SearchStrategy[Any]]] = [
        (4, st.sampled_from((*USUAL, *words.texts))),
        (3, told),
        (3, _json(words)),
        (1, st.text()),
        (1, numbers),
        (1, st.binary()),
        (1, told.map(str.encode)),
        (1, st.builds(str.__mul__, st.text(min_size=1, max_size=3), st.sampled_from([100, 300]))),
    ]
    choices += [(2, st.from_regex(pattern)) for pattern in words.patterns[:5]]
    if command is not None:
        choices.append((len(choices) * 3, rest.map(lambda text: command + text)))
    return _weighted(*choices).filter(_can_be_sent)


def _can_be_sent(message: str | bytes) -> bool:
    return isinstance(message, bytes) or _is_text(message)


def _json(words: Words) -> SearchStrategy[str]:
    texts = st.one_of(st.sampled_from(words.texts), st.text()) if words.texts else st.text()
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
    values = _weighted((1, plain), (2, st.sampled_from(words.commands or ("",))))
    nested = st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)
        ),
        max_leaves=5,
    )
    # An object with the keys that are looked up, most of the time with all of them.
    keyed = st.builds(
        lambda drawn, left_out: {k: v for k, v in drawn.items() if k != left_out},
        st.fixed_dictionaries({key: values for key in words.keys[:8]}),
        st.sampled_from((None, None, *words.keys)),
    )
    return _weighted((3, keyed), (1, st.dictionaries(texts, plain, max_size=4)), (1, nested)).map(
        json.dumps
    )


def asks(words: Words) -> SearchStrategy[Ask]:
    """Draw requests for a connection, with the words of a filter in path, query and headers."""
    constants = words.texts
    texts = st.one_of(st.sampled_from(constants), st.text()) if constants else st.text()
    quoted = texts.map(lambda word: quote(word, safe=""))
    paths = st.builds(lambda word: "/" + quote(word.lstrip("/")), texts)
    asked_for = st.sampled_from([quote(key, safe="") for key in words.keys] or ["name"])
    names_asked_for = _weighted((3, asked_for), (1, quoted))
    queries = st.lists(st.tuples(names_asked_for, quoted), max_size=2).map(
        lambda pairs: "".join(f"&{name}={value}" for name, value in pairs)
    )
    names = ["Cookie", "Authorization", "X-Forwarded-For", "Sec-WebSocket-Protocol"]
    names += [c for c in constants if TOKEN(c) and c.lower() not in SPECIAL_HEADERS]
    names = list({name.lower(): name for name in names}.values())
    visible = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
    known = [c for c in constants if c.isascii() and c.isprintable()]
    values = st.one_of(visible, st.sampled_from(known)) if known else visible
    headers = st.dictionaries(st.sampled_from(names), values.map(str.strip), max_size=2)
    return st.builds(
        lambda path, query, fields: Ask(
            path + (f"?{query[1:]}" if query else ""), tuple(fields.items())
        ),
        paths,
        queries,
        headers,
    )


def given_asks(requests: SearchStrategy[Any]) -> SearchStrategy[Ask]:
    """Make requests of an author's paths, or pairs of path and headers."""

    def ask(drawn: Any) -> Ask:
        path, headers = (drawn, {}) if isinstance(drawn, str) else drawn
        return Ask(path, tuple(headers.items() if isinstance(headers, Mapping) else headers))

    return requests.map(ask)


def items(words: Words) -> SearchStrategy[Any]:
    """Draw items as the listener of Redis puts them on the queue."""
    usual = st.sampled_from(USUAL)
    drawn = _weighted((1, usual), (2, messages(words)))
    data = drawn.map(lambda m: m.encode() if isinstance(m, str) else m)
    channels = st.binary(min_size=1, max_size=8)
    if words.texts:
        channels = st.one_of(channels, st.sampled_from(words.texts).map(str.encode))
    published = st.fixed_dictionaries(
        {"type": st.just("message"), "pattern": st.none(), "channel": channels, "data": data}
    )
    matched = st.fixed_dictionaries(
        {"type": st.just("pmessage"), "pattern": channels, "channel": channels, "data": data}
    )
    gap = st.just({"type": "gap", "seconds": 1.5, "channels": ["news"]})
    return st.one_of(published, published, matched, gap)


def stories(
    messages: SearchStrategy[str | bytes],
    requests: SearchStrategy[Ask] | None,
    items: SearchStrategy[Any] | None,
    *,
    with_raw_data: bool,
) -> SearchStrategy[Story]:
    """Draw stories of a few clients."""
    who = _weighted((3, st.just(WHO[0])), (2, st.just(WHO[1])), (1, st.just(WHO[2])))
    steps: list[tuple[int, SearchStrategy[Step]]] = [
        (8, st.builds(Send, who, messages)),
        (2, st.builds(Connect, who)),
        (2, st.builds(Leave, who, st.booleans())),
        (1, st.builds(Wait, st.sampled_from(WAITS))),
    ]
    if items is not None:
        steps.append((6, st.builds(Put, items)))
    if with_raw_data:
        raw = st.binary(min_size=1, max_size=40)
        steps += [(2, st.builds(SendRaw, who, raw)), (1, st.builds(Knock, raw))]
    asked: SearchStrategy[tuple[tuple[str, Ask], ...]] = st.just(())
    if requests is not None:
        asked = st.tuples(*(st.tuples(st.just(name), requests) for name in WHO))
    drawn = st.lists(_weighted(*steps), max_size=MOST_STEPS, min_size=1).map(tuple)
    return st.builds(Story, drawn, asked)


def stories_of_commands(
    words: Words,
    requests: SearchStrategy[Ask] | None,
    items: SearchStrategy[Any] | None,
    *,
    with_raw_data: bool,
) -> SearchStrategy[Story]:
    """Draw stories, in many of which most messages begin with one and the same command."""
    found = [
        stories(messages(words, command), requests, items, with_raw_data=with_raw_data)
        for command in (None, *words.commands[:MOST_COMMANDS])
    ]
    return _weighted(*((1, drawn) for drawn in found))


def cuts() -> SearchStrategy[Cuts]:
    """Draw how bytes are cut."""
    return st.sampled_from(CUTS)


def _weighted(*choices: tuple[int, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    """Draw from strategies, from each as often as it says; `one_of` knows no weights."""
    all_choices = [strategy for weight, strategy in choices for _ in range(weight)]

    @st.composite
    def drawn(draw: st.DrawFn) -> Any:
        return draw(all_choices[draw(st.integers(0, len(all_choices) - 1))])

    return drawn()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
