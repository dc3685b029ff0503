"""Take apart the memory of an idle connection: which objects it consists of, and what else."""

import argparse
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import BENCH, make_certificate, positive, raise_descriptor_limit, run_benchmark, server

HEAD = (
    "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)
OF_A_BROWSER = (
    "Pragma: no-cache\r\nCache-Control: no-cache\r\nOrigin: http://127.0.0.1:{port}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\nCookie: session={number:064x}\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
)
FIRST = 1000  # connections before those that are measured: what is allocated once, and free room
SETTLE = 1.0  # seconds until what the handshakes have left is gone
SMALLEST = 5.0  # bytes per connection that are worth a line
PATIENCE = 60.0  # seconds that the server may take to look at its memory


def main():
    options = parse_options()
    if options.tls and not shutil.which("openssl"):
        sys.exit("the table of memory with TLS needs openssl, to make a certificate")
    raise_descriptor_limit()
    with TemporaryDirectory() as folder, ExitStack() as running:
        report = Path(folder) / "report"
        command = [sys.executable, *(["-X", "tracemalloc"] if options.lines else [])]
        command += [BENCH / "inspected_server.py", report, "--log_level", "warning"]
        if options.tls:
            pem = make_certificate(folder)
            command += ["-key", pem, "-cert", pem]
        command += ["-f", "filtered_websocket.filters.broadcast_messages", "-p"]
        pid, port = running.enter_context(server(*command))
        clients = Clients(running, port, options)
        clients.connect(FIRST)
        before = inspected(pid, report)
        clients.connect(options.connections)
        after = inspected(pid, report)
    if options.lines:
        print_lines(before, after, options.connections)
    else:
        print_objects(before, after, options.connections)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--connections", type=positive, default=10_000, help="(10,000)")
    parser.add_argument("--browser", action="store_true", help="send the headers of a browser")
    parser.add_argument("--tls", action="store_true", help="connect with TLS; -n 1000 will do")
    parser.add_argument("--lines", action="store_true", help="list the lines that allocate instead")
    return parser.parse_args()


class Clients:
    """Open connections and do nothing with them."""

    def __init__(self, running, port, options):
        self._running = running
        self._port = port
        self._head = HEAD.replace("{more}", OF_A_BROWSER if options.browser else "")
        self._context = None
        if options.tls:
            self._context = ssl.create_default_context()
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def connect(self, count):
        for number in range(count):
            if number % 1000 == 999:
                print(f"{number + 1:,} of {count:,} connections", file=sys.stderr)
            client = socket.create_connection(("127.0.0.1", self._port))
            if self._context is not None:
                client = self._context.wrap_socket(client)
            self._running.enter_context(client)
            client.sendall(self._head.format(port=self._port, number=number).encode())
            answer = client.recv(4096)
            if not (answer.startswith(b"HTTP/1.1 101") and answer.endswith(b"\r\n\r\n")):
                sys.exit(f"the server refused a client: {answer!r}")


def inspected(pid, report):
    """Return the private bytes of a process, and what the process itself tells of them."""
    time.sleep(SETTLE)  # noqa: TID251 (no event loop)
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while not report.exists():
        if time.monotonic() > deadline:
            sys.exit("the server did not tell what its memory consists of")
        time.sleep(0.1)  # noqa: TID251 (no event loop)
    found = json.loads(report.read_text())
    report.unlink()
    return {"private": private} | found


def print_objects(before, after, count):
    total, allocated = ((after[key] - before[key]) / count for key in ("private", "allocated"))
    found = growth(before["objects"], after["objects"], count)
    objects = sum(size for _, size in found.values())
    print(f"\n{'bytes':>8}{'number':>8}  {'an idle connection has':28}held by")
    for what, (number, size) in sorted(found.items(), key=lambda row: -row[1][1]):
        name, holders = what.split("|")
        if size >= SMALLEST:
            print(f"{size:8,.0f}{number:8.2f}  {name:28}{holders[:60]}".rstrip())
    for what, size in (
        ("all objects", objects),
        ("what else is allocated: structures of C, attributes, rounding", allocated - objects),
        ("free room in the allocators, less what was never written to", total - allocated),
        (f"in all: {total / 1024:.2f} KiB of private memory", total),
    ):
        print(f"{size:8,.0f}{'':10}{what}")


def print_lines(before, after, count):
    found = growth(before["lines"], after["lines"], count)
    print(f"\n{'bytes':>8}  of an idle connection were allocated by this line, or below it in C")
    for line, (size,) in sorted(found.items(), key=lambda row: -row[1][0]):
        if size >= SMALLEST:
            print(f"{size:8,.0f}  {line}")


def growth(before, after, count):
    """Return by how much the figures have grown, per connection."""
    return {
        what: [(new - old) / count for new, old in zip(figures, before[what], strict=True)]
        if what in before
        else [new / count for new in figures]
        for what, figures in after.items()
    }


if __name__ == "__main__":
    run_benchmark(main)
