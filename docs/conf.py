"""Sphinx: `make docs` builds the manual."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

# The API is that of this checkout, whatever is installed.
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

project = "filtered_websocket"
author = "The filtered_websocket developers"
copyright = "2026, the filtered_websocket developers"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["images"]
nitpicky = True
# What is not ours would be looked up in other manuals, over the network.
nitpick_ignore_regex = [(r"py:.*", r"(?!filtered_websocket\.).*")]
nitpick_ignore = [  # type variables
    ("py:class", "filtered_websocket.testing.pipeline.Result"),
    ("py:class", "filtered_websocket.testing.server.Result"),
]
myst_heading_anchors = 3

default_role = "code"  # docstrings have one backtick, as our pages do
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 120
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = project

MADE_FOR_YOU = {
    "filtered_websocket.server.ConsumerQueue",
    "filtered_websocket.server.FilteredWebSocket",
    "filtered_websocket.server.FilteredWebSocketFactory",
    "filtered_websocket.testing.Client",
    "filtered_websocket.users.Users",
}


def without_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, *signature: str | None
) -> tuple[str, str] | None:
    """Leave out the arguments of classes that users do not make themselves."""
    return ("", "") if name in MADE_FOR_YOU else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", without_signature)
