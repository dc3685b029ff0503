"""Fuzz the targets, some at a time; a finding lands in the corpus, where the tests replay it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from .targets import TARGETS

FOLDER = Path(__file__).parent
BUILD = Path("build/fuzz")
LONGEST = 20_000  # bytes of an input: more than a connection reads at once
SLOW = 10  # seconds: an input that takes as long is a finding


def fuzz(target: str, seconds: float) -> bool:
    """Fuzz one target; print what came of it, and tell whether it found nothing."""
    seeds, grown = FOLDER / "corpus" / target, BUILD / target
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={LONGEST}",
        f"-timeout={SLOW}",
        f"-dict={FOLDER / 'dictionary.txt'}",
        f"-artifact_prefix={seeds}/",
        "-print_final_stats=1",
    ]
    worker = [sys.executable, "-m", "tests.fuzz.worker", target, *options, str(grown), str(seeds)]
    done = subprocess.run(worker, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.stdout.decode(errors="replace")
    numbers = dict(re.findall(r"stat::(\w+): +(\d+)", output))
    coverage = re.findall(r"cov: (\d+)", output) or ["?"]
    print(
        f"{target:10} {numbers.get('number_of_executed_units', '?'):>9} inputs, "
        f"{numbers.get('average_exec_per_sec', '?'):>6} a second, {coverage[-1]:>5} edges: "
        + ("nothing found" if done.returncode == 0 else "FOUND"),
        flush=True,
    )
    if done.returncode:
        print(output[max(output.find(" === "), len(output) - LONGEST) :], flush=True)
    return done.returncode == 0


def main() -> None:
    parser = ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for all together; default 60")
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if find_spec("atheris") is None:
        print("no fuzzing here: atheris has wheels for Python 3.11 to 3.14 on x86-64 Linux only")
        return
    workers = min(os.cpu_count() or 1, len(targets))
    seconds = options.seconds * workers / len(targets)
    with ThreadPoolExecutor(workers) as executor:
        results = [executor.submit(fuzz, target, seconds) for target in targets]
    if not all(result.result() for result in results):
        sys.exit(f"what was found is in {FOLDER / 'corpus'}: name the file after what it shows")


if __name__ == "__main__":
    main()
