"""Race fws_server against a broadcast server in C that does nothing else (csrv.c)."""

import argparse
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

BENCH = Path(__file__).parent
BUILD = BENCH.parent / "build" / "bench"
FWS_SERVER = [
    Path(sys.executable).with_name("fws_server"),
    *("--log_level", "warning"),
    *("-f", "filtered_websocket.filters.broadcast_messages"),
    "-p",
]

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
    wsload, csrv = compiled("wsload"), compiled("csrv")
    raise_descriptor_limit()
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as running:
        pin(cores[0])
        servers = {
            "C": running.enter_context(server(csrv)),
            "fws_server": running.enter_context(server(*FWS_SERVER)),
        }
        pin(cores[min(1, len(cores) - 1)])
        results = race(wsload, servers, options)
    print_table(results)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-t", "--time", type=float, default=3, help="seconds per run (3)")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="runs per case and server (3)")
    return parser.parse_args()


def compiled(name):
    source, program = BENCH / f"{name}.c", BUILD / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    if not shutil.which("gcc"):
        sys.exit(f"the benchmark needs gcc, to compile {source}")
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O3", "-march=native", "-o", program, source], check=True)
    return program


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pin(core):
    """Bind this process, and with it those it starts from now on, to `core`."""
    os.sched_setaffinity(0, {core})


@contextmanager
def server(*command):
    """Run a server while the block runs; `command` takes a port as its last word."""
    port = free_port()
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL)
    try:
        wait_until_it_listens(process, port)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    """Return a port below those that the kernel gives to clients, lest one of them takes it."""
    while True:
        with suppress(OSError):
            with socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as listener:
                return listener.getsockname()[1]


def wait_until_it_listens(process, port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            pass
        try:
            sys.exit(f"{process.args[0]} ended with status {process.wait(0.05)}")
        except subprocess.TimeoutExpired:
            pass
    sys.exit(f"{process.args[0]} does not listen on port {port}")


def race(wsload, servers, options):
    """Run all cases `rounds` times, the servers in turn; return the results by case and server."""
    results = defaultdict(list)
    for turn in range(1, options.rounds + 1):
        for case, arguments in CASES.items():
            print(f"round {turn} of {options.rounds}: {case}", file=sys.stderr)
            for name, (pid, port) in servers.items():
                command = [wsload, "fanout", *arguments.split(), "-t", str(options.time)]
                command += ["--port", str(port), "--server-pid", str(pid)]
                run = subprocess.run(command, capture_output=True, text=True)
                if run.returncode:
                    sys.exit(f"{name} failed: {case}\n{run.stderr}{run.stdout}")
                results[case, name].append(json.loads(run.stdout))
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
