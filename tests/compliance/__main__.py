"""Run the Autobahn test suite against `fws_server`, and fail when a result is not as expected."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..process import ServerProcess
from . import expectations
from .expectations import Result

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build"
SUITE_PYTHON = BUILD / "autobahn" / "bin" / "python"
REPORTS = BUILD / "compliance"

# Clients that do not offer compression get none, so that one server serves all groups.
SERVER = ("-f", "echo", "--max_message_size", "20000000", "--compression", "deflate")
# More would disturb one another: the suite has cases that wait for a second.
CLIENTS = 2

# Groups 12 and 13, on compression, send a thousand messages in each of their 216 cases. The last
# number of a case is the size of its messages; these are small, middling, large and in fragments.
COMPRESSION_GROUPS = ("12", "13")
QUICK_SIZES = ("1", "5", "8", "11", "13")


def main() -> None:
    options = parse_options()
    everything = expectations.load()
    expected = {case: everything[case] for case in everything if is_selected(case, options)}
    if not expected:
        sys.exit(f"no case begins with {' or '.join(options.cases)}")

    start = time.monotonic()
    results = run(list(expected))
    print(
        f"{len(results)} cases in {time.monotonic() - start:.0f} s: {expectations.summary(results)}"
    )

    changes = expectations.changes(expected, results)
    for change in changes.values():
        print(change)
    if not changes:
        print("all as expected")
    elif options.record and len(results) == len(expected):
        expectations.save(everything | {case: results[case] for case in changes})
        print(f"recorded in {expectations.FILE}; docs/conformance.md has to name what is not OK")
    else:
        sys.exit(
            f"{len(changes)} cases have changed; {REPORTS} has what each sent and got.\n"
            "If the change is meant, record it: make compliance ARGS=--record"
        )


def parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.compliance", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="a case or a group: 7.1.2, 7.1, 7")
    parser.add_argument("--full", action="store_true", help="all sizes of groups 12 and 13 too")
    parser.add_argument("--record", action="store_true", help="expect from now on what comes")
    return parser.parse_args()


def is_selected(case: str, options: Namespace) -> bool:
    if options.cases:
        return any(f"{case}.".startswith(f"{prefix}.") for prefix in options.cases)
    group, *_, size = case.split(".")
    return options.full or group not in COMPRESSION_GROUPS or size in QUICK_SIZES


def run(cases: list[str]) -> dict[str, Result]:
    """Return the results of the cases, without those that ended with none."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    server = ServerProcess(HERE, *SERVER)
    try:
        url = server.url
        with ThreadPoolExecutor(CLIENTS) as clients:
            shares = [cases[client::CLIENTS] for client in range(CLIENTS)]
            results = clients.map(lambda share: fuzz(url, share), shares)
            return {case: result for share in results for case, result in share.items()}
    finally:
        server.kill()
        print()
        (REPORTS / "server.log").write_text(server.stderr)


def fuzz(url: str, cases: list[str]) -> dict[str, Result]:
    """Run cases one after the other, in a process of the suite."""
    results = {}
    # The library of the suite is old: a newer Python has warnings about it, which are not ours.
    command = [SUITE_PYTHON, "-W", "ignore", HERE / "suite" / "fuzz.py", url, *cases]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            report = json.loads(line)
            case = report["id"]
            (REPORTS / f"{case}.json").write_text(json.dumps(report, indent=1))
            results[case] = (report["behavior"], report["behaviorClose"])
            print(".", end="", flush=True)
    return results


if __name__ == "__main__":
    main()
