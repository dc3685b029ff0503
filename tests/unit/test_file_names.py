"""Every source file has its test file, and every test file its source file."""

from __future__ import annotations

from pathlib import Path

import filtered_websocket

SOURCE = Path(filtered_websocket.__file__).parent
TESTS = Path(__file__).parent
OF_NO_FILE = {
    Path("test_alert_rules.py"),
    Path("test_api_page.py"),
    Path("test_compliance.py"),
    Path("test_deploy.py"),
    Path("test_docs.py"),
    Path("test_exports.py"),
    Path("test_manual.py"),
    Path(__file__).relative_to(TESTS),
}


def test_each_source_file_has_its_twin() -> None:
    """`filters/base.py` is tested by `filters/test_base.py`; nothing is missing or left over."""
    expected = {
        path.relative_to(SOURCE).with_name(f"test_{path.name}")
        for path in SOURCE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")} - OF_NO_FILE == expected
