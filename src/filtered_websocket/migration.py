"""What a program for 0.4.1 names and does not find any more, and what its author should do.

What belongs here: the names that are gone, and how Python 2 is recognised. What does not: importing
the program (`importer`), and what has changed without an error (docs/from-0.4.1.md).
"""

from __future__ import annotations

import re

__all__ = ["GONE", "GUIDE", "advice"]

GUIDE = "docs/from-0.4.1.md"

_TWISTED = "the server runs on asyncio, not on Twisted"
_META = "it is enough to inherit from the filter class"

GONE = {
    "twisted": _TWISTED,
    "six": "inherit from FilterBase without add_metaclass, or install six yourself",
    "redis_collections": "write through web_socket_instance.storage_object",
    "base": "write `from filtered_websocket.filters.base import`",
    "filtered_websocket.server.build_reactor": "start the server with the command fws_server",
    "filtered_websocket.server.reactor": _TWISTED,
    "filtered_websocket.filters.base.DataFilterMeta": _META,
    "filtered_websocket.filters.base.MessageFilterMeta": _META,
    "filtered_websocket.filters.base.DisconnectFilterMeta": _META,
    "filtered_websocket.filters.base.ConsumerFilterMeta": _META,
} | {
    old: f"in Python 3 it is `{new}`"
    for old, new in {
        "ConfigParser": "configparser",
        "Cookie": "http.cookies",
        "Queue": "queue",
        "StringIO": "io",
        "cPickle": "pickle",
        "cStringIO": "io",
        "httplib": "http.client",
        "thread": "threading",
        "urllib2": "urllib.request",
        "urlparse": "urllib.parse",
        "basestring": "str",
        "long": "int",
        "raw_input": "input",
        "reduce": "functools.reduce",
        "reload": "importlib.reload",
        "unichr": "chr",
        "unicode": "str",
        "xrange": "range",
    }.items()
}
"""What to do without a module, a built-in name, or a name that a module of ours had."""

_cannot_import = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'").match

# Asked only about lines that Python refuses, so it need not tell them from valid ones.
_is_python_2 = re.compile(
    r"""
    ^\s* (print|exec) \s+ [^\s=(]       # print "text"
    | ^\s* except \b .* , \s* \w+ \s* : # except KeyError, error:
    | ^\s* raise \s+ [\w.]+ \s* ,       # raise KeyError, "text"
    | <> | ` | \b0\d+\b | \b\d+[lL]\b | \b[uU][rR]['"]
    """,
    re.VERBOSE,
).search


def advice(error: BaseException) -> str:
    """Return what to add to an error that a module has raised on import, mostly nothing."""
    if isinstance(error, SyntaxError):
        is_old = isinstance(error, TabError) or _is_python_2(error.text or "")
        what = "this is Python 2" if is_old else None
    else:
        what = GONE.get(_missing_name(error))
    return f"; {what}: see {GUIDE}" if what else ""


def _missing_name(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError | NameError):
        return error.name or ""
    match = _cannot_import(error.msg or "") if isinstance(error, ImportError) else None
    return f"{match[2]}.{match[1]}" if match else ""
