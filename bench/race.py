"""Race fws_server against a broadcast server in C that does nothing else (csrv.c)."""

import argparse
import sys
from collections import defaultdict
from contextlib import ExitStack
from statistics import median

from harness import BROADCAST, compiled, raise_descriptor_limit, run_wsload, server

CASES = {
    "1000 clients, 10 publishers, 10 in flight": "-n 1000 -p 10 -w 10",
    "1000 clients, 10 publishers, 60 in flight": "-n 1000 -p 10 -w 60",
    "100 clients and 100 publishers, 100 in flight": "-n 100 -p 100 -w 100",
    "100 clients, 10 publishers, 20 of 16 KiB": "-n 100 -p 10 -w 20 -s 16384",
}


def main():
    options = parse_options()
    if sys.platform != "linux":
        sys.exit("the benchmark needs Linux: wsload.c and csrv.c are built on epoll")
    raise_descriptor_limit()
    with ExitStack() as running:
        servers = {
            "C": running.enter_context(server(compiled("csrv"))),
            "fws_server": running.enter_context(server(*BROADCAST)),
        }
        results = race(servers, options)
    print_table(results)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--time", type=float, default=3, help="seconds per run (3)")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="runs per case and server (3)")
    return parser.parse_args()


def race(servers, options):
    """Run all cases `rounds` times, the servers in turn; return the results by case and server."""
    results = defaultdict(list)
    for turn in range(1, options.rounds + 1):
        for case, arguments in CASES.items():
            print(f"round {turn} of {options.rounds}: {case}", file=sys.stderr)
            for name, (pid, port) in servers.items():
                result = run_wsload("fanout", pid, port, *arguments.split(), "-t", options.time)
                results[case, name].append(result)
    return results


def print_table(results):
    def middle(case, name, key):
        return median(result[key] for result in results[case, name])

    print(f"\n{'':46}{'deliveries/s':>24}{'':8}{'CPU µs per delivery':>20}")
    print(f"{'':46}{'C':>12}{'fws_server':>12}{'ratio':>8}{'C':>10}{'fws_server':>12}{'ratio':>8}")
    for case in CASES:
        c_rate, rate = (middle(case, name, "deliveries_per_s") for name in ("C", "fws_server"))
        c_cpu, cpu = (middle(case, name, "cpu_us_per_delivery") for name in ("C", "fws_server"))
        print(
            f"{case:46}{c_rate:12,.0f}{rate:12,.0f}{rate / c_rate:8.2f}"
            f"{c_cpu:10.3f}{cpu:12.3f}{cpu / c_cpu:8.2f}"
        )


if __name__ == "__main__":
    main()
