"""Where the value of an option comes from: command line, environment, file, default.

Options are known by the parser alone, those of the storage object included. Values from elsewhere
are turned into arguments and parsed by it, so that types and messages are the same everywhere.
"""

from __future__ import annotations

import argparse
import difflib
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from .config_deserializer import ConfigFileError, read_config

__all__ = ["DEFAULT", "SECRETS", "ConfigError", "Resolved", "resolve"]

DEFAULT = "default"
PREFIX = "FWS_"
SECRETS = ("FWS_KEY_PASSWORD", "FWS_REDIS_PASSWORD")
"""No options: the environment is their only way in."""


class Resolved(NamedTuple):
    """What `resolve` found."""

    options: Namespace
    sources: dict[str, str]
    """Of each option: `command line`, the name of the variable, `FILE: key`, or DEFAULT."""
    warnings: list[str]
    """What looks like a mistake, and is none that keeps a server from starting."""


class ConfigError(Exception):
    """Report a value that cannot be used: what, where, and what would be right."""


def resolve(
    parser: ArgumentParser, arguments: Sequence[str], environ: Mapping[str, str]
) -> Resolved:
    """Return the options, with the source of each.

    The command line wins over the environment, that over the config file, that over the defaults.
    Raises ConfigError. `-h` and `--version` print and exit, as argparse does.
    """
    required = [action for action in _settable(parser) if action.required]
    for action in required:
        action.required = False  # on the command line, that is; another source will do
    given = _parse(parser, arguments)
    from_environment, warnings = _from_environment(parser, environ)
    filename = given.get("config", from_environment.get("config"))
    options = {action.dest: _default(parser, action) for action in _settable(parser)}
    sources = dict.fromkeys(options, DEFAULT)
    if filename:
        from_file, keys = _from_file(parser, filename)
        options |= from_file
        sources |= {dest: f"{filename}: {key}" for dest, key in keys.items()}
    options |= from_environment | given
    sources |= {dest: PREFIX + dest.upper() for dest in from_environment}
    sources |= dict.fromkeys(given, "command line")
    for action in required:
        if options[action.dest] is None:
            raise ConfigError(f"{action.option_strings[-1]} is required")
    return Resolved(Namespace(**options), sources, warnings)


def _from_environment(
    parser: ArgumentParser, environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the FWS_ variables; an empty one counts as not set."""
    by_variable = {PREFIX + action.dest.upper(): action for action in _settable(parser)}
    values: dict[str, Any] = {}
    warnings = []
    for variable, text in environ.items():
        action = by_variable.get(variable)
        if action is not None and text:
            raw: Any = text.replace(",", " ").split() if _is_list(action) else text
            values |= _value(parser, action, raw, variable)
        elif variable.startswith(PREFIX) and action is None and variable not in SECRETS:
            warnings.append(f"{variable} is not an option{_nearest(variable, by_variable)}")
    return values, warnings


def _from_file(parser: ArgumentParser, filename: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a config file, and the key that each is from."""
    try:
        content = read_config(filename)
    except ConfigFileError as error:
        raise ConfigError(str(error)) from None
    by_key = {
        option.removeprefix("--"): action
        for action in _settable(parser)
        for option in action.option_strings
        if option.startswith("--") and action.dest != "config"
    }
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, raw in _with_flags(content, filename):
        action = by_key.get(key)
        if action is None:
            raise ConfigError(f"{filename}: unknown key {key!r}{_nearest(key, by_key)}")
        values |= _value(parser, action, raw, f"{filename}: {key}")
        keys[action.dest] = key
    return values, keys


def _with_flags(content: dict[str, Any], filename: str) -> Iterator[tuple[str, Any]]:
    """Yield keys and values, with each name in the list `flags` as a key that is true."""
    for key, raw in content.items():
        if key != "flags":
            yield key, raw
        elif isinstance(raw, list) and all(isinstance(flag, str) for flag in raw):
            yield from ((flag, True) for flag in raw)
        else:
            raise ConfigError(f'{filename}: flags: expected a list of names, like ["no_console"]')


def _value(parser: ArgumentParser, action: argparse.Action, raw: Any, where: str) -> dict[str, Any]:
    """Return `{dest: value}` for a value from elsewhere, parsed as the command line would be."""
    option = action.option_strings[-1]
    if isinstance(action, argparse.BooleanOptionalAction):
        return {action.dest: _boolean(raw, where)}
    if action.nargs == 0:
        return {action.dest: action.const if _boolean(raw, where) else action.default}
    if _is_list(action):
        items = raw if isinstance(raw, list) else [raw]
        if not all(_is_scalar(item) and not str(item).startswith("-") for item in items):
            raise ConfigError(f'{where}: expected a list, like ["a", "b"], not {raw!r}')
        if _is_repeated(action):
            return _parse(parser, [f"{option}={item}" for item in items], where)
        return _parse(parser, [option, *map(str, items)], where)
    if not _is_scalar(raw):
        raise ConfigError(f"{where}: expected one value, not {raw!r}")
    return _parse(parser, [f"{option}={raw}"], where)


def _is_list(action: argparse.Action) -> bool:
    return action.nargs in ("*", "+") or _is_repeated(action)


def _is_repeated(action: argparse.Action) -> bool:
    """Tell whether an option takes one value each time it is given."""
    return isinstance(action, argparse._AppendAction) and action.nargs is None


def _default(parser: ArgumentParser, action: argparse.Action) -> Any:
    # As argparse does: a default that is a string is parsed like one from the command line.
    default = action.default
    if not isinstance(default, str):
        return default
    try:
        return parser._get_value(action, default)
    except Exception as error:
        name = action.option_strings[-1]
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{name}: its default {default!r} is refused: {reason}") from None


def _is_scalar(raw: Any) -> bool:
    return isinstance(raw, str | int | float) and not isinstance(raw, bool)


def _boolean(raw: Any, where: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    value = words.get(str(raw).lower())
    if value is None:
        raise ConfigError(f"{where}: expected true or false, not {raw!r}")
    return value


def _parse(parser: ArgumentParser, arguments: Sequence[str], where: str = "") -> dict[str, Any]:
    """Parse arguments to the values that they set, without the defaults."""

    def fail(message: str) -> NoReturn:
        # argparse says "argument -p/--port: …", which is not where this value came from.
        raise ConfigError(f"{where}: {message.partition(': ')[2]}" if where else message)

    unset = Namespace(**{action.dest: None for action in _settable(parser)})
    parser.error = fail  # type: ignore[method-assign]
    try:
        given, unknown = parser.parse_known_args(arguments, unset)
    except (ConfigError, SystemExit):  # SystemExit is -h
        raise
    except Exception as error:  # from the type of an option that a storage has added
        fail(f"{' '.join(arguments)}: {type(error).__name__}: {error}")
    if unknown:
        raise ConfigError(f"unknown argument {unknown[0]!r}{_hint(parser, unknown[0])}")
    return {dest: value for dest, value in vars(given).items() if value is not None}


def _hint(parser: ArgumentParser, argument: str) -> str:
    if not argument.startswith("-"):
        return f"; filters are named after -f: fws_server -f {argument}"
    if not argument.startswith("--"):
        return ""
    known = [name for action in parser._actions for name in action.option_strings]
    return _nearest(argument.partition("=")[0], known)


def _settable(parser: ArgumentParser) -> list[argparse.Action]:
    # argparse has no public list of its options, and storage objects add theirs to it.
    return [a for a in parser._actions if a.option_strings and a.default is not SUPPRESS]


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    if "redis" in name.lower() and not any("redis" in other.lower() for other in known):
        storage = "filtered_websocket.storage_objects.redis"
        return f"; the options of Redis need STORAGE_OBJECT_MODULE={storage}"
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known are {', '.join(known)}"
