"""Compare how many instructions the scenarios of `fanout.py` take with the stored figures.

Instructions, counted by valgrind, hardly depend on the machine's load, as times do. A scenario runs
twice, for a few turns and for many: the difference, by the work done in it, is without start-up.
Figures hold for one kind of interpreter and engine only, and are stored by these.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from fanout import SCENARIOS
from harness import BENCH, CORES

FIGURES = BENCH / "instructions.json"
TURNS = {
    "single": (20, 120),
    "sixty": (10, 40),
    "everybody": (10, 40),
    "group": (20, 320),
    "loop": (2, 6),
    "echo": (10, 40),
    "echo-burst": (4, 12),
    "handshake": (4, 12),
}
COUNT = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that valgrind ends too
    if not shutil.which("valgrind"):
        fail("the check needs valgrind, to count instructions")
    stored = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    here = environment()
    if here not in stored and not options.store:
        fail(
            f"there are no stored figures for {here} (only for {'; '.join(stored) or 'nothing'}), "
            "and others do not compare.\nTo store some, with a good version of the server: "
            "make bench-check ARGS=--store"
        )
    try:
        figures = count_all(options.scenarios or TURNS)
    except RuntimeError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    is_worse = print_table(figures, stored.get(here, {}), options.margin)
    if options.store:
        stored[here] = stored.get(here, {}) | figures
        FIGURES.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
        print(f"stored in {FIGURES} for {here}")
    elif is_worse:
        sys.exit(1)


def fail(message):
    """Exit with 2: nothing was compared."""
    print(message, file=sys.stderr)
    sys.exit(2)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--margin", type=float, default=5, help="percent that may be added (5)")
    parser.add_argument("--store", action="store_true", help="let these figures be the stored ones")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(TURNS))
    options = parser.parse_args()
    for name in options.scenarios:
        if name not in TURNS:
            parser.error(f"there is no scenario {name!r} here; there are {', '.join(TURNS)}")
    return options


def environment():
    """Return what the figures hold for."""
    python = f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"
    engine = ", ".join(f"{name} {version(name)}" for name in ("picows", "uvloop"))
    return f"{python} on {platform.machine()}, {engine}"


def count_all(names):
    """Return the instructions per unit of work of each scenario; valgrind runs on all cores."""
    runs = [(name, turns) for name in names for turns in TURNS[name]]
    running = set()
    with ThreadPoolExecutor(len(CORES)) as pool:
        try:
            counts = pool.map(lambda run: count(*run, running), runs)
            totals = dict(zip(runs, counts, strict=True))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()
    figures = {}
    for name in names:
        few, many = TURNS[name]
        units = (many - few) * SCENARIOS[name].units
        figures[name] = round((totals[name, many] - totals[name, few]) / units, 1)
    return figures


def count(name, turns, running):
    """Return the instructions of a process with so many turns; it is in `running` meanwhile."""
    print(f"{name}: {turns} turns", file=sys.stderr)
    command = [*COUNT, sys.executable, BENCH / "fanout.py", name, "--turns", str(turns)]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    running.add(process)
    _, log = process.communicate()
    running.remove(process)
    total = re.search(r"Collected : (\d+)", log)
    if process.returncode or total is None:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{log}")
    return int(total[1])


def print_table(figures, stored, margin):
    """Return whether a figure is above the stored one by more than the margin."""
    print(f"\n{'instructions per':60}{'':12}{'stored':>12}{'now':>12}{'change':>9}")
    changes = []
    for name, figure in figures.items():
        scenario = SCENARIOS[name]
        line = f"{name:12}{scenario.title:60}{scenario.unit:12}"
        if name not in stored:
            print(f"{line}{'-':>12}{figure:12,.1f}")
            continue
        change = (figure / stored[name] - 1) * 100
        changes.append(change)
        verdict = "WORSE" if change > margin else "better: store it" if change < -margin else "ok"
        print(f"{line}{stored[name]:12,.1f}{figure:12,.1f}{change:+8.1f}%  {verdict}")
    return any(change > margin for change in changes)


if __name__ == "__main__":
    main()
