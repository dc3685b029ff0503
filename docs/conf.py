"""Sphinx: `make docs` builds the manual."""

project = "filtered_websocket"
author = "The filtered_websocket developers"
copyright = "2026, the filtered_websocket developers"

extensions = ["myst_parser"]
exclude_patterns = ["images"]
nitpicky = True
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
