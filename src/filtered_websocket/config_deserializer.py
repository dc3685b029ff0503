"""Read a config file: JSON with comment lines, or TOML.

What belongs here: files to values. What does not: which keys there are (`options`), and which
source of a value wins (`config`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Any

__all__ = ["ConfigFileError", "config_deserializer", "read_config"]


class ConfigFileError(Exception):
    """Report a config file that cannot be read, with file, line and column."""


def read_config(filename: str) -> dict[str, Any]:
    """Return the keys and values of a config file; `.toml` files are TOML, all others JSON.

    In JSON, lines that start with `#`, after spaces or not, are comments. Raises ConfigFileError.
    """
    try:
        with open(filename, encoding="utf-8-sig") as file:
            text = file.read()
        values = tomllib.loads(text) if filename.endswith(".toml") else _parse_json(text)
    except OSError as error:
        raise ConfigFileError(f"{filename}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigFileError(f"{filename}: the file is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ConfigFileError(f"{filename}, {place}: bad JSON: {error.msg}") from None
    except ValueError as error:
        raise ConfigFileError(f"{filename}: {error}") from None
    except RecursionError:
        raise ConfigFileError(f"{filename}: it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ConfigFileError(f'{filename}: expected one JSON object, {{"port": 9000, …}}')
    return values


def config_deserializer(filename: str) -> list[str]:
    """Return a config file as command-line arguments: `{"port": 22}` gives `["--port", "22"]`.

    Raises ConfigFileError, which names the place, for one that cannot be read.
    """
    arguments: list[str] = []
    for key, value in read_config(filename).items():
        if key == "flags" and isinstance(value, list):
            arguments += [f"--{flag}" for flag in value]
        elif isinstance(value, bool):
            arguments += [f"--{key}"] if value else []
        elif isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:
            arguments += [f"--{key}", str(value)]
    return arguments


def _parse_json(text: str) -> Any:
    # Comments become empty lines, so that the lines of error messages are those of the file.
    lines = ("" if line.lstrip().startswith("#") else line for line in text.split("\n"))
    return json.loads("\n".join(lines), object_pairs_hook=_unique)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} is there twice")
        values[key] = value
    return values
