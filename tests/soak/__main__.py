"""Let good and hostile clients use real servers for minutes; fail when anything is left behind."""

from __future__ import annotations

import json
import random
import ssl
import sys
import threading
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..integration.test_event_loops import LOOPS
from ..integration.wire import TEXT, Peer, frame, local_tls
from ..process import ServerProcess
from .clients import BAD, GOOD, Conversation, Server

HERE = Path(__file__).parent
OPTIONS = (
    *("--compression", "deflate", "--handshake_timeout", "5"),
    *("--ping_interval", "5", "--ping_timeout", "5", "--max_connections_per_ip", "1000"),
    *("-f", "soak_filters", "filtered_websocket.filters.broadcast_messages_by_token"),
)
WARM_UP = 20.0  # seconds
LEAVE = 30.0  # seconds until all that has a deadline is gone
PAUSE = 0.02  # seconds between two conversations of a client

# What may be there at the end beyond the start. Objects: caches of Python and of its libraries.
MARGINS = {"resident KiB": 16 * 1024, "resident KiB after a trim": 4 * 1024}
TYPE_MARGIN = 50


def main() -> None:
    options = parse_options()
    with TemporaryDirectory() as folder, ExitStack() as running:
        tls_options, trust = local_tls(Path(folder))
        servers: list[tuple[ServerProcess, ssl.SSLContext | None]] = []
        for extra, context in (((), None), (tls_options, trust)):
            process = ServerProcess(
                Path(folder),
                *OPTIONS,
                *extra,
                environ={"PYTHONPATH": f"{HERE}:{':'.join(sys.path)}"},
                command=LOOPS[options.loop],
            )
            running.callback(process.kill)
            servers.append((process, context))
        addresses = [(process.port, context) for process, context in servers]
        crowd(addresses, WARM_UP)
        before = [settled(address) for address in addresses]
        failures, done = crowd(addresses, options.minutes * 60)
        after = [settled(address, goal) for address, goal in zip(addresses, before, strict=True)]
        print(", ".join(f"{name} × {number:,}" for name, number in sorted(done.items())))
        for name, *counts in zip(("without TLS", "with TLS"), before, after, strict=True):
            for growth in grown(*counts):
                failures.append(f"{name}: {growth}")
            memory = [count[key] for key in MARGINS for count in counts]
            print(f"{name}: resident {memory[0]} to {memory[1]} KiB, trimmed {memory[2:]}")
        for process, _ in servers:
            failures += process.stop() * ["the server did not stop well"]
            errors = process.stderr.count(" ERROR ") - process.stderr.count("FailingFilter failed")
            failures += [process.stderr[-2000:]] if errors else []
    sys.exit("\n".join(failures[:50]) or 0)


def parse_options() -> Namespace:
    parser = ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--loop", choices=LOOPS, default="uvloop", help="the event loop (uvloop)")
    return parser.parse_args()


def crowd(servers: list[Server], seconds: float) -> tuple[list[str], Counter[str]]:
    """Let all clients talk for a while, and leave; return what went wrong, and who did what."""
    failures: list[str] = []
    done: Counter[str] = Counter()
    end = threading.Event()

    def client(server: Server, conversation: Conversation, is_good: bool) -> None:
        while not end.wait(random.random() * PAUSE):
            try:
                conversation(server)
            except Exception as error:
                # What becomes of a hostile one is no news, nor that nobody speaks at the end.
                if is_good and not (end.is_set() and isinstance(error, TimeoutError)):
                    failures.append("".join(traceback.format_exception(error)[-3:]))
            done[conversation.__name__] += 1

    threads = [
        threading.Thread(target=client, args=(server, conversation, conversations is GOOD))
        for server in servers
        for conversations in (GOOD, BAD)
        for conversation in conversations
    ]
    for thread in threads:
        thread.start()
    end.wait(seconds)
    end.set()
    for thread in threads:
        thread.join()
    return failures, done


def settled(server: Server, goal: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the counts when they are at `goal`, or do not get there in time."""
    deadline = time.monotonic() + LEAVE
    waiting = threading.Event()
    if goal is None:
        waiting.wait(LEAVE / 2)
    while True:
        counts = counted(server)
        if goal is None or not grown(goal, counts) or time.monotonic() > deadline:
            return counts
        waiting.wait(1)


def counted(server: Server) -> dict[str, Any]:
    with Peer(server[0], tls=server[1]) as peer:
        peer.open(frame(TEXT, b"!count"))
        while (received := peer.read_frame()).opcode != TEXT:
            pass
        counts: dict[str, Any] = json.loads(received.payload)
        return counts


def grown(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Tell what there is more of than the margins allow."""
    growth = [
        f"{key}: from {before[key]} to {after[key]}"
        for key in before.keys() - {"types"}
        if after[key] > before[key] + MARGINS.get(key, 0)
    ]
    for name, number in after["types"].items():
        if number > before["types"].get(name, 0) + TYPE_MARGIN:
            growth.append(f"objects of {name}: from {before['types'].get(name, 0)} to {number}")
    return growth


if __name__ == "__main__":
    main()
