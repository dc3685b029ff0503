"""The pages hold together: links lead somewhere, code can be read, promises have their tests."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    page
    for folder in ("*.md", "docs/**/*.md", "examples/**/*.md", "bench/**/*.md", "deploy/**/*.md")
    for page in ROOT.glob(folder)
)
OF_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

RUN_ELSEWHERE = {"python": "test_documented_examples", "python2": "nobody has it any more"}
NOT_CODE = {"text"}
CHECKED_BY_ITS_PROGRAM = {"nginx": "tests/integration/test_nginx.py"}
TESTED = ("CHANGELOG.md", "Dockerfile", "deploy/", "examples/")
"""Where the files that pages show are; they have tests of their own."""


class Block(NamedTuple):
    """A fenced block: its language or `{directive}`, what follows that, and its lines."""

    kind: str
    argument: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    fence = re.compile(r"^( *)```(\S+) ?(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
    for indent, kind, argument, code in fence.findall(page.read_text()):
        yield Block(kind, argument, re.sub(f"^{indent}", "", code, flags=re.MULTILINE))


def prose(page: Path) -> str:
    """Return a page without its blocks and without code in its lines."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "``", text, flags=re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Return what `#` may name on a page, by the rules of GitHub and of MyST."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = (c for c in shown if c in " -_" or unicodedata.category(c)[0] in "LN")
        slug = "".join(kept).strip().replace(" ", "-")
        number = 0
        while (numbered := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(numbered)
    return found


@OF_PAGE
def test_each_link_leads_somewhere(page: Path) -> None:
    """Files and sections that a page names are in the repository; so is what it shows."""
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(file), f"{target}: there is no such section"


@OF_PAGE
def test_links_are_written_where_they_are(page: Path) -> None:
    """Addresses that stand elsewhere on a page would escape the test above."""
    assert re.findall(r"^\[[^]]+\]: ", prose(page), re.MULTILINE) == []


def parse_shell(code: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    parsed = subprocess.run([bash, "-n"], input=code, capture_output=True, text=True)
    assert parsed.returncode == 0, parsed.stderr


PARSERS: dict[str, Callable[[str], object]] = {
    "sh": parse_shell,
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}


@OF_PAGE
def test_each_block_of_code_can_be_read(page: Path) -> None:
    """A block is parsed here, run elsewhere, or no code at all; a kind nobody knows is refused."""
    for block in blocks(page):
        if block.kind in PARSERS:
            PARSERS[block.kind](block.code)
        elif block.kind in ("{literalinclude}", "{include}"):
            file = (page.parent / block.argument).resolve()
            assert str(file.relative_to(ROOT.resolve())).startswith(TESTED), block.argument
            assert file.is_file(), block.argument
        elif not block.kind.startswith("{"):
            known = RUN_ELSEWHERE.keys() | CHECKED_BY_ITS_PROGRAM.keys() | NOT_CODE
            assert block.kind in known, block


def test_each_page_is_in_the_contents() -> None:
    """A reader finds every page of the manual from its first one, and no page twice."""
    docs = ROOT / "docs"
    contents = "".join(block.code for block in blocks(docs / "index.md"))
    listed = re.findall(r"^[\w./-]+$", contents, re.MULTILINE)
    pages = {page.relative_to(docs) for page in PAGES if page.is_relative_to(docs)}
    names = {str(page.with_suffix("")) for page in pages} - {"index"}
    assert sorted(listed) == sorted(name for name in names if not re.match(r"adr/\d", name))


@pytest.mark.parametrize("name", ["promises", "security"])
def test_each_promise_has_its_test(name: str) -> None:
    """Below each there is a comment with the tests that prove it, and these are there."""
    text = (ROOT / "docs" / f"{name}.md").read_text()
    _, _, text = text.partition("\n## ") if name == "promises" else text.partition("By itself")
    if name == "security":
        text, _, _ = text.partition("\n## ")
    promises = re.findall(r"^- \*\*.*?(?=^\S)", text + "\nend", re.MULTILINE | re.DOTALL)
    assert promises
    for promise in promises:
        tests = re.findall(r"<!-- (\S+)::(\w+) -->", promise)
        assert tests, promise
        for file, function in tests:
            names = {
                getattr(node, "name", "") for node in ast.parse((ROOT / file).read_text()).body
            }
            assert function in names, f"{file}::{function}"
