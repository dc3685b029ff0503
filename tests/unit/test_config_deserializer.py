"""Config files as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filtered_websocket.config_deserializer import (
    ConfigFileError,
    config_deserializer,
    read_config,
)


def write(folder: Path, content: str | bytes, name: str = "config.json") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


JSON = """\
# the port
{
    "port": "9999",
    # an indented comment, "with": quotes
\t# and one after a tab
    "filters": ["a", "b"],
    "no_console": true,
    "drain_seconds": 2.5,
    "key": "# not a comment.pem"
}
# the end
"""

TOML = """\
# the port
port = "9999"
filters = ["a", "b"]
no_console = true  # TOML knows comments anywhere
drain_seconds = 2.5
key = "# not a comment.pem"
"""


@pytest.mark.parametrize(("content", "name"), [(JSON, "config.json"), (TOML, "config.toml")])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "with-bom"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_values_are_read(content: str, name: str, mark: str, ending: str, tmp_path: Path) -> None:
    """Both formats give the same values; lines that start with # are comments."""
    assert read_config(write(tmp_path, mark + content.replace("\n", ending), name)) == {
        "port": "9999",
        "filters": ["a", "b"],
        "no_console": True,
        "drain_seconds": 2.5,
        "key": "# not a comment.pem",
    }


def test_a_name_without_ending_is_json(tmp_path: Path) -> None:
    """Only `.toml` means TOML."""
    assert read_config(write(tmp_path, '{"port": 1}', "config")) == {"port": 1}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('# one\n# two\n{"port": 9000,}', "line 3, column 15: bad JSON: "),
        ('{\n  "port" 9000\n}', "line 2, column 10: bad JSON: Expecting ':' delimiter"),
        ('{"port": 1}\n{}', "line 2, column 1: bad JSON: Extra data"),
        ("", "line 1, column 1: bad JSON: Expecting value"),
        ('{"a": 1,\n # no\n "a": 2}', "the key 'a' is there twice"),
        ("[1, 2]", 'expected one JSON object, {"port": 9000'),
        ('"text"', "expected one JSON object"),
        (b'{"key": "\xff"}', "the file is not UTF-8 text"),
    ],
    ids=["comma", "colon", "two", "empty", "twice", "list", "string", "latin1"],
)
def test_bad_json(content: str | bytes, complaint: str, tmp_path: Path) -> None:
    """The error is one line with the file's name, and line and column as the author counts them."""
    filename = write(tmp_path, content)
    with pytest.raises(ConfigFileError) as error:
        read_config(filename)
    assert str(error.value).startswith(filename)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("# one\nport = \n", "line 2, column 8"),
        ("port = 1\nport = 2\n", "line 2"),
        (b"key = '\xff'", "the file is not UTF-8 text"),
    ],
    ids=["no-value", "twice", "latin1"],
)
def test_bad_toml(content: str | bytes, complaint: str, tmp_path: Path) -> None:
    """The error is one line with the file's name, line and column."""
    filename = write(tmp_path, content, "config.toml")
    with pytest.raises(ConfigFileError) as error:
        read_config(filename)
    assert str(error.value).startswith(filename)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error has the name of the file and the system's reason."""
    with pytest.raises(ConfigFileError, match=r"nothing\.json: No such file"):
        read_config(str(tmp_path / "nothing.json"))
    with pytest.raises(ConfigFileError, match="Is a directory"):
        read_config(str(tmp_path))


def test_values_as_arguments(tmp_path: Path) -> None:
    """`config_deserializer` of 0.4.1 gives the arguments that say the same as the file."""
    content = (
        '{"port": 22, "flags": ["x", "y"], "a": true, "b": false, "filters": ["f", 5], "c": ""}'
    )
    assert config_deserializer(write(tmp_path, content)) == [
        *("--port", "22"),
        *("--x", "--y"),
        "--a",
        *("--filters", "f", "5"),
        *("--c", ""),
    ]


@given(content=st.one_of(st.binary(), st.text(), st.text("{}[]\",:# \n1ea'\\")))
@pytest.mark.parametrize("name", ["config.json", "config.toml"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_refused(content: Any, name: str, tmp_path: Path) -> None:
    """Whatever is in a file, reading it gives a dict or a ConfigFileError."""
    content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    try:
        assert isinstance(read_config(write(tmp_path, content, name)), dict)
    except ConfigFileError:
        pass
