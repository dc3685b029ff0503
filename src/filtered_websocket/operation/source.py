"""What the source of filters says: which messages they change, and what else a module does.

What belongs here: reading syntax trees; what a filter does through functions of its own is not
followed. What does not: what of it is worth a warning (`hints`).
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from ..filters.base import FilterBase
from ..importer import NOT_THE_AUTHORS

__all__ = [
    "PACKAGE",
    "FilterSource",
    "authors_modules",
    "tree_of",
    "used_of_storage",
    "uses",
    "words_in",
]

PACKAGE = __name__.partition(".")[0]

MUTATING = {"append", "clear", "extend", "insert", "pop", "remove", "reverse"}
"""The methods of a bytearray that change it; the others return something new."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class FilterSource:
    """What the source of a filter says that it does; nothing where there is no source."""

    def __init__(self, cls: type[FilterBase]) -> None:
        function = _source_of_filter(cls)
        self._nodes = [] if function is None else list(_walk(function.body))
        arguments = [] if function is None else [*function.args.posonlyargs, *function.args.args]
        names = [argument.arg for argument in arguments]
        self._connection, self._data = names[-2:] if len(names) > 1 else ("", "")
        added_to = [n.target for n in self._nodes if isinstance(n, ast.AugAssign)]
        self._is_rebound = any(
            isinstance(n, ast.Name)
            and n.id == self._data
            and isinstance(n.ctx, ast.Store)
            and n not in added_to
            for n in self._nodes
        )

    def sends_to_many(self) -> bool:
        """Tell whether it broadcasts, or sends in a loop."""
        calls = [n.func for n in self._nodes if isinstance(n, ast.Call)]
        called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
        loops = any(isinstance(n, ast.For | ast.AsyncFor | ast.comprehension) for n in self._nodes)
        return "broadcast" in called or ("sendMessage" in called and loops)

    def drops(self) -> bool:
        """Tell whether it raises DropMessage."""
        return any(isinstance(n, ast.Raise) and "DropMessage" in words_in(n) for n in self._nodes)

    def changes(self) -> bool:
        """Tell whether it returns another message, or changes the one it got."""
        return any(
            (isinstance(n, ast.Return) and self._is_another(n.value))
            or (self._changes_in_place(n) and not self._is_rebound)
            for n in self._nodes
        )

    def _is_another(self, returned: ast.expr | None) -> bool:
        match returned:
            case None | ast.Constant(value=None):
                return False
            case ast.Name(id=name):
                return name != self._data or self._is_rebound
            case ast.IfExp(body=one, orelse=other):
                return self._is_another(one) or self._is_another(other)
            case ast.Await(value=value):
                return self._is_another(value)
            case ast.Call(func=function):
                # What these return is nothing: `return web_socket_instance.sendMessage(…)`.
                return _root(function) not in (self._connection, "print")
        return True

    def _changes_in_place(self, node: ast.AST) -> bool:
        match node:
            case ast.AugAssign(target=ast.Name(id=name)):
                return name == self._data
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                return name == self._data
            case ast.Attribute(value=ast.Name(id=name), attr="is_binary", ctx=ast.Store()):
                return name == self._data
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                return name == self._data and method in MUTATING
        return False


def _source_of_filter(cls: type[FilterBase]) -> Function | None:
    function = inspect.unwrap(getattr(cls.filter, "__func__", cls.filter))
    module = sys.modules.get(getattr(function, "__module__", ""))
    code = getattr(function, "__code__", None)
    tree = None if module is None else tree_of(module)
    if tree is None or code is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, Function):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno and node.name == code.co_name:
                return node
    return None


def _walk(nodes: Collection[ast.AST]) -> Iterator[ast.AST]:
    """Yield these nodes and all below them, without the functions that are defined there."""
    for node in nodes:
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            yield node
            yield from _walk(list(ast.iter_child_nodes(node)))


def _root(node: ast.AST) -> str:
    """Return the name that an expression like `name.attribute.method` begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# Modules


def authors_modules(*classes: type) -> list[ModuleType]:
    """Return the modules that a user may have written, and the packages that filters are from."""
    registered = [c for base in FilterBase.__subclasses__() for c in (base, *base._filters)]
    packages = {_package(cls.__module__) for cls in (*registered, *classes)} - {PACKAGE}
    return [
        module
        for name, module in list(sys.modules.items())
        if _package(name) != PACKAGE
        and (file := getattr(module, "__file__", None)) is not None
        and (_package(name) in packages or not file.startswith(NOT_THE_AUTHORS))
    ]


def _package(module: str) -> str:
    return module.partition(".")[0]


@cache
def tree_of(module: ModuleType) -> ast.Module | None:
    """Return the syntax tree of a module, or None where its source cannot be read."""
    try:
        return ast.parse(Path(getattr(module, "__file__", None) or "").read_bytes())
    except (OSError, SyntaxError, ValueError):  # it is compiled, or gone
        return None


def words_in(tree: ast.AST) -> set[str]:
    """Return all names and attributes in a tree, and the strings that could be names."""
    words: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                words.add(word)
    return words


def uses(tree: ast.Module, names: Collection[str]) -> bool:
    """Tell whether a module does more with one of these classes than to inherit from it."""
    bases = [b for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for b in n.bases]
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in names:
                if node not in bases:
                    return True
            case ast.alias(name=name, asname=str()) if name in names:
                return True  # Under another name it may do anything.
    return False


def used_of_storage(tree: ast.Module) -> set[str]:
    """Return what a module takes of `storage_object`, unless it looks whether that is there."""
    stored = {"storage_object"}  # and the names that it is given
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Attribute(attr="storage_object")
            ):
                stored.add(name)
    used: set[str] = set()
    known: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name) if _last(owner) in stored:
                (used if isinstance(node.ctx, ast.Load) else known).add(name)
            case ast.Subscript(value=owner, ctx=ast.Load()) if _last(owner) in stored:
                used.add("__getitem__")
            case ast.Call(func=ast.Attribute(attr="broadcast"), keywords=words):
                used |= {"get"} if any(word.arg == "group" for word in words) else set()
            case ast.Constant(value=str(name)):  # as in `hasattr(storage_object, "name")`
                known.add(name)
    return used - known


def _last(node: ast.AST) -> str:
    """Return the name that an expression like `name.attribute` ends with."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
