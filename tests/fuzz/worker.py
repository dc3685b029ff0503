"""Fuzz one target in this process: `python -m tests.fuzz.worker TARGET`, then libFuzzer options."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["filtered_websocket"]):
    from .targets import TARGETS

from .virtual import running


def main() -> None:
    program, name, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[name])
    with running():
        atheris.Fuzz()


if __name__ == "__main__":
    main()
