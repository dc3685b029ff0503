"""Race fws_server against other broadcast servers: a table, a CSV and a plot in build/bench."""

import argparse
import resource
import shutil
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from typing import NamedTuple

import report
from cases import CASES
from harness import (
    BENCH,
    BROADCAST,
    BUILD,
    RunFailed,
    compiled,
    positive,
    raise_descriptor_limit,
    run_benchmark,
    run_wsload,
    server,
)
from plot import draw

# The race is about these two: if one of them fails, there is nothing to report.
MUST_PASS = ("C", "fws_server")


class Server(NamedTuple):
    command: list
    version: str


def main():
    options = parse_options()
    raise_descriptor_limit()
    found = {name: SERVERS[name]() for name in options.servers}
    servers = {name: racer for name, racer in found.items() if racer}
    runs = []
    try:
        for run in race(servers, chosen_cases(options), options):
            runs.append(run)
    finally:
        if runs:
            columns = dict.fromkeys(column for run in runs for column in run)
            report.write(BUILD / "race.csv", runs, columns)
    medians = report.medians(runs)
    print(report.full_tables(medians), end="")
    draw(medians, BUILD / "race.svg")
    if options.publish:
        report.publish(medians)
        draw(medians, report.PLOT)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"servers: {', '.join(SERVERS)}; cases: {'; '.join(CASES)}"
    )
    parser.add_argument("-t", "--time", type=float, default=1, help="seconds per run (1)")
    parser.add_argument("-r", "--rounds", type=positive, default=3, help="runs of each (3)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS, metavar="NAME")
    parser.add_argument(
        "--cases", nargs="+", metavar="WORDS", help="those whose names have one of these words"
    )
    parser.add_argument(
        "--publish", action="store_true", help="renew the figures in README.md and docs/"
    )
    options = parser.parse_args()
    if options.publish and (options.cases or options.servers is not SERVERS):
        parser.error("--publish is for a race of all servers in all cases")
    return options


def in_c():
    program = compiled("csrv")
    if not shutil.which("gcc"):  # it was compiled before
        return Server([program], "")
    gcc = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    return Server([program], f"by gcc {gcc.stdout.strip()}")


def ours():
    return Server(BROADCAST, version("filtered_websocket"))


def in_python(package):
    command = [sys.executable, BENCH / "servers" / f"{package}_server.py"]
    return Server(command, version(package))


def on_node():
    """Install `ws`, with the part in C that it recommends; return None where that cannot be."""
    if not (shutil.which("node") and shutil.which("npm")):
        print("ws is left out: it needs node and npm", file=sys.stderr)
        return None
    package = BUILD / "node_modules" / "ws"
    if not package.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--prefix", BUILD, "--no-audit", "--no-fund", "--ignore-scripts"]
        if subprocess.run([*npm, "ws", "bufferutil"], stdout=sys.stderr).returncode:
            print("ws is left out: npm could not install it", file=sys.stderr)
            return None
    script = '`${require("./package.json").version} on node ${process.versions.node}`'
    node = subprocess.run(["node", "-p", script], cwd=package, capture_output=True, text=True)
    return Server(["node", BENCH / "servers" / "ws_server.js"], node.stdout.strip())


SERVERS = {
    "C": in_c,
    "fws_server": ours,
    "picows": lambda: in_python("picows"),
    "websockets": lambda: in_python("websockets"),
    "aiohttp": lambda: in_python("aiohttp"),
    "ws": on_node,
}


def chosen_cases(options):
    """Return the cases that were asked for and for which there are enough descriptors."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    chosen = {}
    for case, settings in CASES.items():
        if options.cases and not any(words in case for words in options.cases):
            continue
        # What a server has open besides its clients is less than a hundred.
        if settings["n"] + settings["p"] + 100 > limit:
            print(f"left out, with no more than {limit:,} open files: {case}", file=sys.stderr)
            continue
        chosen[case] = settings
    if not chosen:
        sys.exit("no case is left to run; --help lists them all")
    return chosen


def race(servers, cases, options):
    """Yield one row per run: for each case all servers in turn, `rounds` times."""
    common = {"seconds": options.time, "date": date.today().isoformat()}
    common["machine"] = report.machine()
    turns = [(case, name) for case in cases for _ in range(options.rounds) for name in servers]
    for number, (case, name) in enumerate(turns, 1):
        print(f"{number} of {len(turns)}: {case}: {name}", file=sys.stderr)
        row = {"case": case, "server": name, "version": servers[name].version, "error": ""}
        try:
            row |= measure(servers[name], cases[case], options.time)
        except RunFailed as error:
            if name in MUST_PASS:
                raise
            row["error"] = " ".join(str(error).split())
        yield row | common


def measure(racer, settings, seconds):
    """Run one case against a new server, which no run before has left anything to do."""
    seconds *= 4 if "r" in settings else 1  # else a percentile would be of few messages
    arguments = [word for key, value in settings.items() for word in (f"-{key}", value)]
    with server(*racer.command) as (pid, port):
        return run_wsload("fanout", pid, port, *arguments, "-t", seconds, "--warmup", 0.5)


if __name__ == "__main__":
    run_benchmark(main)
