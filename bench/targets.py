"""Measure everything that has a target, and tell which targets are met."""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import inbound
import report
import tls_clients
from harness import (
    BENCH,
    BROADCAST,
    BUILD,
    CLIENT_CORE,
    SERVER_CORE,
    compiled,
    free_port,
    fws_server,
    make_certificate,
    pin,
    positive,
    raise_descriptor_limit,
    run_benchmark,
    run_wsload,
    server,
)
from report import rounded

COLUMNS = ("row", "median", "low", "high", "unit", "target", "verdict", "ours", "other")
COLUMNS += ("runs", "seconds", "date", "machine")
ECHO = fws_server("-f", "filters.echo")
LOOP = fws_server("-f", "filters.loop")
DEFLATE = fws_server(
    "--compression", "deflate", "-f", "filtered_websocket.filters.broadcast_messages"
)
CROWD = "-n 1000 -p 10"
FIRST_RATE, STEP = 1000, 1.5  # messages per second that the ladder begins with, and their growth
SLOW = 50_000  # µs: with this p99 a rate is too high
IDLE = 5.0  # seconds at least: clients are pinged in ticks of a second
STARTS = 10
UNMEASURED = {
    "data filters, where none is loaded": "no code of them runs",
}


class Row(NamedTuple):
    name: str
    unit: str
    target: float
    at_least: bool = False


class Case(NamedTuple):
    """What is measured together: `measure(seconds)` returns one figure for each of the rows.

    A figure is a number, or a pair whose ratio counts: ours, and what it is compared with.
    """

    measure: Callable
    rows: tuple[Row, ...]


def main():
    options = parse_options()
    check_requirements()
    raise_descriptor_limit()
    os.chdir(BENCH)  # so that the servers find `filters`
    pin(CLIENT_CORE)
    print(f"{'':46}{'median':>7} {'(min-max)':15}{'target':>8}{'':16}{'ours / other':>15}")
    lines = []
    try:
        for case in options.cases:
            lines += run(case, options)
        if not options.words:
            lines += [{"row": row, "verdict": why} for row, why in UNMEASURED.items()]
            for line in lines[-len(UNMEASURED) :]:
                print_line(line)
    finally:
        rows = [dict.fromkeys(COLUMNS, "") | line | origin(options) for line in lines]
        if rows:
            report.write(BUILD / "targets.csv", rows)
            print(f"\nalso in {BUILD / 'targets.csv'}")
    if options.publish:
        report.publish_targets(rows)
    sys.exit(any(line["verdict"] == "failed" for line in lines))


def origin(options):
    return {
        "runs": options.rounds,
        "seconds": options.time,
        "date": date.today().isoformat(),
        "machine": report.machine(),
    }


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--time", type=float, default=3, help="seconds per run (3)")
    parser.add_argument("-r", "--rounds", type=positive, default=3, help="runs of each (3)")
    parser.add_argument("--publish", action="store_true", help="renew the figures in docs/")
    parser.add_argument("words", nargs="*", metavar="WORD", help="parts of names of rows (all)")
    options = parser.parse_args()
    if options.publish and options.words:
        parser.error("--publish is for all rows")
    options.cases = [
        case
        for case in CASES
        if not options.words or any(word in row.name for row in case.rows for word in options.words)
    ]
    if not options.cases:
        parser.error("no row has such a name; there are:\n  " + "\n  ".join(row_names()))
    return options


def row_names():
    return [row.name for case in CASES for row in case.rows]


def check_requirements():
    if not shutil.which("openssl"):
        sys.exit("the benchmark needs openssl, to make a certificate")
    compiled("csrv")
    compiled("wsload")


def run(case, options):
    """Measure a case in all rounds, print its rows, and return what was printed."""
    rounds = []
    try:
        for turn in range(1, options.rounds + 1):
            print(f"round {turn} of {options.rounds}: {case.rows[0].name}", file=sys.stderr)
            rounds.append(case.measure(options.time))
    except SystemExit as error:  # nothing may be lost; but what is, does not concern the others
        print(error, file=sys.stderr)
        lines = [{"row": row.name, "verdict": "failed"} for row in case.rows]
    else:
        lines = list(map(summary, case.rows, zip(*rounds, strict=True)))
    for line in lines:
        print_line(line)
    return lines


def summary(row, figures):
    pairs = [figure if isinstance(figure, tuple) else (figure, None) for figure in figures]
    values = [ours if other is None else ours / other for ours, other in pairs]
    middle = median(values)
    is_met = middle >= row.target if row.at_least else middle <= row.target
    line = {"row": row.name, "median": middle, "low": min(values), "high": max(values)}
    line |= {"unit": row.unit, "target": f"{'≥' if row.at_least else '≤'} {row.target:g}"}
    line |= {"verdict": "ok" if is_met else "missed"}
    if pairs[0][1] is not None:
        line |= {"ours": median(ours for ours, _ in pairs), "other": median(o for _, o in pairs)}
    return line


def print_line(line):
    if "median" not in line:
        print(f"{line['row']:46}{line['verdict']:>7}", flush=True)
        return
    span = f"({rounded(line['low'])}-{rounded(line['high'])})"
    pair = f"{rounded(line['ours'])} / {rounded(line['other'])}" if "ours" in line else ""
    print(
        f"{line['row']:46}{rounded(line['median']):>7} {span:15}"
        f"{line['target']:>8} {line['unit']:15}{pair:>15}  {line['verdict']}",
        flush=True,
    )


# How it is measured: each of these runs one round


def load(command, mode, arguments, seconds):
    """Return what `wsload` measures on a new server."""
    with server(*command) as (pid, port):
        return run_wsload(mode, pid, port, *arguments.split(), "-t", seconds)


def against_c(arguments, seconds):
    return (cpu_pair(*fanout_of_both(arguments, seconds)),)


def one_at_a_time(arguments, seconds):
    c, ours = fanout_of_both(arguments, seconds * 4)  # else the p99 would be of few messages
    return cpu_pair(c, ours), (ours["p99_us"], c["p99_us"])


def fanout_of_both(arguments, seconds):
    c = load([compiled("csrv")], "fanout", arguments, seconds)
    return c, load(BROADCAST, "fanout", arguments, seconds)


def cpu_pair(other, ours):
    return ours["cpu_us_per_delivery"], other["cpu_us_per_delivery"]


def echo(window, seconds):
    arguments = f"-n 100 -w {window}"
    c = load([compiled("csrv"), "echo"], "echo", arguments, seconds)
    return (cpu_pair(c, load(ECHO, "echo", arguments, seconds)),)


def ten_times_the_clients(seconds):
    few = load(BROADCAST, "fanout", f"{CROWD} -w 60", seconds)
    return (cpu_pair(few, load(BROADCAST, "fanout", "-n 10000 -p 10 -w 60", seconds)),)


def loop_of_ones_own(window, seconds):
    broadcast = load(BROADCAST, "fanout", f"{CROWD} -w {window}", seconds)
    return (cpu_pair(broadcast, load(LOOP, "fanout", f"{CROWD} -w {window}", seconds)),)


def ladder(seconds):
    """Return the millions of deliveries per second at the highest rate that is not too high."""
    rate, best = FIRST_RATE, 0
    while reached := deliveries_at(rate, seconds) or deliveries_at(rate, seconds):
        rate, best = rate * STEP, reached
    return (best / 1e6,)


def deliveries_at(rate, seconds):
    """Return the deliveries per second; 0 when any came late or never."""
    try:
        result = load(BROADCAST, "fanout", f"{CROWD} -r {rate:.0f} --poisson 1", seconds)
    except SystemExit as error:
        print(error, file=sys.stderr)
        return 0
    print(f"  {rate:,.0f} messages/s: p99 {result['p99_us'] / 1000:.1f} ms", file=sys.stderr)
    return result["deliveries_per_s"] if result["p99_us"] < SLOW else 0


def idle_connections(seconds):
    result = load(BROADCAST, "conns", "-n 10000", seconds)
    return result["kib_per_conn"], result["cpu_us_per_handshake"]


def compressed(window, seconds):
    arguments = f"{CROWD} -w {window} -s 1024 --json"
    plain = load(DEFLATE, "fanout", arguments, seconds)
    return (cpu_pair(plain, load(DEFLATE, "fanout", f"{arguments} --deflate", seconds)),)


def tls(seconds):
    with TemporaryDirectory() as folder:
        pem = make_certificate(folder)
        websockets = [sys.executable, BENCH / "servers" / "websockets_server.py", pem]
        ours = [*BROADCAST[:-1], "-key", pem, "-cert", pem, BROADCAST[-1]]
        return (tuple(tls_cpu(command, seconds) for command in (ours, websockets)),)


def tls_cpu(command, seconds):
    with server(*command) as (pid, port):
        return tls_clients.cpu_per_delivery(pid, port, 110, 10, seconds)


def unused(part, seconds):
    return (inbound.cpu_per_message(part, seconds),)


def idle_server(seconds):
    hold = round(max(seconds, IDLE) * 1000)
    result = load(BROADCAST, "conns", f"-n 1000 --hold-ms {hold}", seconds)
    if not result["pings"]:
        sys.exit("the server did not ping its idle clients: it had less to do than it should")
    return (result["idle_cpu"] * 100,)


def start(seconds):
    return (median(seconds_to_start() for _ in range(STARTS)),)


def seconds_to_start():
    port = free_port()
    pin(SERVER_CORE)
    begin = time.monotonic()
    process = subprocess.Popen([*BROADCAST, str(port)])
    pin(CLIENT_CORE)
    try:
        while process.poll() is None:
            with socket.socket() as client:
                if not client.connect_ex(("127.0.0.1", port)):
                    return time.monotonic() - begin
        sys.exit(f"fws_server ended with status {process.returncode}")
    finally:
        process.terminate()
        process.wait()


CASES = (
    *(
        Case(partial(against_c, arguments), (Row(name, "× C", target),))
        for name, arguments, target in (
            ("1,000 clients, 10 publishers, 10 in flight", f"{CROWD} -w 10", 1.4),
            ("1,000 clients, 10 publishers, 60 in flight", f"{CROWD} -w 60", 1.5),
            ("room: 100 clients, all publish, 100 in flight", "-n 0 -p 100 -w 100", 2),
            ("1,000 clients, all publish", "-n 0 -p 1000 -w 1000", 2.5),
            ("16 KiB, 100 clients, 20 in flight", "-n 100 -p 10 -w 20 -s 16384", 1.2),
        )
    ),
    Case(
        partial(one_at_a_time, f"{CROWD} -r 20"),
        (
            Row("one message at a time, 1,000 clients, 20/s", "× C", 1.4),
            Row("one message at a time: p99", "× C", 1.3),
        ),
    ),
    Case(partial(echo, 1), (Row("echo, 100 × 1", "× C", 2),)),
    Case(partial(echo, 16), (Row("echo, 100 × 16", "× C", 6),)),
    Case(ten_times_the_clients, (Row("10,000 clients, 60 in flight", "× 1,000", 1.3),)),
    Case(partial(loop_of_ones_own, 10), (Row("loop over users, 10 in flight", "× broadcast", 3),)),
    Case(partial(loop_of_ones_own, 60), (Row("loop over users, 60 in flight", "× broadcast", 3),)),
    Case(
        ladder,
        (Row("Poisson ladder, 1,000 clients, p99 < 50 ms", "M deliveries/s", 3, at_least=True),),
    ),
    Case(
        idle_connections,
        (Row("10,000 idle connections", "KiB each", 8), Row("handshakes", "µs of CPU", 110)),
    ),
    Case(partial(compressed, 10), (Row("compressed 1 KiB JSON, 10 in flight", "× plain", 1.3),)),
    Case(partial(compressed, 60), (Row("compressed 1 KiB JSON, 60 in flight", "× plain", 1.3),)),
    Case(tls, (Row("TLS, 100 clients, 10 in flight", "× websockets", 0.5),)),
    Case(
        partial(unused, inbound.WithoutAsync),
        (Row("no async filter", "× without", 1.03),),
    ),
    Case(
        partial(unused, inbound.WithoutCounts),
        (Row("metrics switched off", "× without", 1.03),),
    ),
    Case(idle_server, (Row("idle server, 1,000 connections", "% of a core", 1),)),
    Case(start, (Row("start to listening", "s", 0.35),)),
)


if __name__ == "__main__":
    run_benchmark(main)
