"""Measure what attacks cost the other clients: the latency of their broadcasts, and memory."""

import argparse
import csv
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from attacks import ATTACKS, Attacker
from harness import (
    BENCH,
    BUILD,
    compiled,
    make_certificate,
    positive,
    raise_descriptor_limit,
    run_benchmark,
    server,
)

CLIENTS = "fanout -n 90 -p 10 -r 200 --spin 0 --warmup 1"  # `-r`: broadcasts per second
LARGE = {"20 never read": ["-s", "2048"]}  # so that much is unread soon
SETTLE = 5.0  # seconds after an attack until its memory is measured again
COLUMNS = ("attack", "p50", "p50_attacked", "p99", "p99_attacked", "ratio", "low", "high", "cpu")
COLUMNS += ("private_before", "rss_before", "rss_peak", "private_after", "rss_after")
COLUMNS += ("files_before", "files_after", "lost", "seen")


def main():
    options = parse_options()
    if not shutil.which("openssl"):
        sys.exit("the attack race needs openssl, to make a certificate")
    wsload = compiled("wsload")
    raise_descriptor_limit()
    rows = []
    with TemporaryDirectory() as folder:
        command = server_command(Path(folder))
        for name in options.attacks or ATTACKS:
            with server(*command) as (pid, tls_port):
                rows.append(race(wsload, name, pid, tls_port, options))
            print_row(rows[-1], is_first=len(rows) == 1)
    save(rows)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--time", type=float, default=5, help="seconds per run (5)")
    parser.add_argument("-r", "--rounds", type=positive, default=5, help="with and without (5)")
    parser.add_argument("attacks", nargs="*", metavar="NAME", help="parts of names (all)")
    options = parser.parse_args()
    options.attacks = [name for name in ATTACKS if any(part in name for part in options.attacks)]
    return options


def server_command(folder):
    pem = make_certificate(folder)
    return [
        *(sys.executable, BENCH / "attacked_server.py", "--log_level", "error"),
        *("--compression", "deflate", "--handshake_timeout", "3", "--max_queue_bytes", "65536"),
        *("-key", pem, "-cert", pem, "-f", "attacked_filter", "-p"),
    ]


def race(wsload, name, pid, tls_port, options):
    """Run the clients alone and under attack in turn; return what came out as a row."""
    alone, attacked, seen = [], [], Counter()
    port = tls_port + 1
    command = [wsload, *CLIENTS.split(), *LARGE.get(name, ()), "-t", str(options.time)]
    command += ["--port", str(port), "--server-pid", str(pid)]
    run(command)  # so that the first of the measured runs is like the others
    time.sleep(1)  # noqa: TID251 -- until its connections are gone
    before = resources(pid)
    peak = 0
    for turn in range(1, options.rounds + 1):
        print(f"round {turn} of {options.rounds}: {name}", file=sys.stderr)
        alone.append(run(command))
        with Attack(name, port, tls_port, pid) as attack:
            attacked.append(run(command))
        seen += attack.verdicts
        peak = max(peak, attack.peak)
    time.sleep(SETTLE)  # noqa: TID251 -- nothing runs beside it
    after = resources(pid)
    low, high = interval(alone, attacked)
    return {
        "attack": name,
        "p50": middle(alone, "p50_us"),
        "p50_attacked": middle(attacked, "p50_us"),
        "p99": middle(alone, "p99_us"),
        "p99_attacked": middle(attacked, "p99_us"),
        "ratio": middle(attacked, "p99_us") / middle(alone, "p99_us"),
        "low": low,
        "high": high,
        "cpu": middle(attacked, "server_cpu_s") / options.time,
        **{f"{key}_before": value for key, value in before.items()},
        **{f"{key}_after": value for key, value in after.items()},
        "rss_peak": peak,
        "lost": sum(result["lost"] + result["closed"] for result in attacked),
        "seen": ", ".join(f"{code} × {number:,}" for code, number in seen.most_common(3)),
    }


def run(command):
    clients = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(clients.stdout)
    except ValueError:
        sys.exit(f"the clients failed:\n{clients.stderr}{clients.stdout}")


def middle(results, key):
    return median(result[key] for result in results)


def interval(alone, attacked):
    """Return the bounds of the ratio of p99, with 95 % confidence (bootstrap)."""
    draw = random.Random(1).choices
    ratios = sorted(
        middle(draw(attacked, k=len(attacked)), "p99_us")
        / middle(draw(alone, k=len(alone)), "p99_us")
        for _ in range(1000)
    )
    return ratios[25], ratios[-26]


class Attack:
    """Attack from another process while the block runs, and watch the memory of the server."""

    def __init__(self, name, port, tls_port, pid):
        context = multiprocessing.get_context("fork")
        self.verdicts, self.peak = Counter(), 0
        self._pid = pid
        self._stop, self._seen = context.Event(), context.SimpleQueue()
        self._process = context.Process(
            target=self._attack, args=(ATTACKS[name], Attacker(port, tls_port))
        )
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self):
        self._process.start()
        self._watcher.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self.verdicts = self._seen.get()
        self._process.join()
        self._watcher.join()

    def _attack(self, attack, attacker):
        # The clients, on the same core, must not wait for the attacker.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._stop.wait(0.5)  # they connect first
        steps = attack(attacker)
        while not self._stop.is_set():
            next(steps)
        self._seen.put(attacker.verdicts)

    def _watch(self):
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, rss(self._pid))


def rss(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def resources(pid):
    """Return the memory (MiB) and the descriptors that a process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return {"private": private / 1024, "rss": rss(pid), "files": files}


def print_row(row, is_first):
    if is_first:
        print(f"{'':30}{'p50, ms':>14}{'p99, ms':>14}{'ratio (95 %)':>20}", end="")
        print(f"{'CPU':>6}{'private, MiB':>14}{'RSS peak':>10}{'files':>9}{'lost':>6}  seen")
    print(
        f"{row['attack']:30}{row['p50'] / 1000:7.2f}{row['p50_attacked'] / 1000:7.2f}"
        f"{row['p99'] / 1000:7.2f}{row['p99_attacked'] / 1000:7.2f}"
        f"{row['ratio']:8.2f} ({row['low']:.2f}-{row['high']:.2f})"
        f"{row['cpu']:6.0%}{row['private_before']:7.1f}{row['private_after']:7.1f}"
        f"{row['rss_peak']:10.1f}{row['files_before']:5}{row['files_after']:4}{row['lost']:6}"
        f"  {row['seen']}",
        flush=True,
    )


def save(rows):
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "attacks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nalso in {BUILD / 'attacks.csv'}")


if __name__ == "__main__":
    run_benchmark(main)
