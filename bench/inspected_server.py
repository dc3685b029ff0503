"""Run `fws_server` that, on SIGUSR1, writes what its memory consists of to a file.

Its first argument is that file, the others are the options of the server.
"""

import ctypes
import gc
import json
import os
import re
import signal
import sys
import tempfile
import traceback
import tracemalloc
from collections import defaultdict

from filtered_websocket.cli import main

libc = ctypes.CDLL(None)


class MallInfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


libc.mallinfo2.restype = MallInfo


def inspect(*signal_arguments):
    # In a copy of the process: what is needed to look at its memory must not become part of it.
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if tracemalloc.is_tracing():  # which costs memory itself
            found = {"lines": lines()}
        else:
            found = {"allocated": allocated_bytes(), "objects": objects()}
        with open(f"{path}.part", "w") as file:
            json.dump(found, file)
        os.rename(f"{path}.part", path)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def allocated_bytes():
    """Return how many bytes the allocators of Python and C have handed out."""
    info = libc.mallinfo2()
    with tempfile.TemporaryFile("w+") as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        sys._debugmallocstats()  # there is no other way to these figures
        os.dup2(stderr, 2)
        file.seek(0)
        small = re.search(r"# bytes in allocated blocks *= *([\d,]+)", file.read())
    return info.uordblks + info.hblkhd + int(small[1].replace(",", ""))


def lines():
    """Return the bytes that each line of Python has allocated."""
    found = defaultdict(lambda: [0])
    for line in tracemalloc.take_snapshot().statistics("lineno"):
        frame = line.traceback[0]
        found[f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}"][0] += line.size
    return found


def objects():
    """Return number and bytes of all objects, by their type and the types of what refers to them.

    Objects that hold no others, like strings, are unknown to the collector: they are found from
    those that hold them.
    """
    gc.disable()
    gc.unfreeze()  # the server has frozen what start-up has made: its dicts have grown since
    found = {id(item): item for item in gc.get_objects()}
    holders = defaultdict(set)
    left = list(found.values())
    while left:
        holder = left.pop()
        for item in gc.get_referents(holder):
            holders[id(item)].add(type(holder).__name__)
            if id(item) not in found:
                found[id(item)] = item
                left.append(item)
    table = defaultdict(lambda: [0, 0])
    for number, item in found.items():
        key = f"{type(item).__name__}|{', '.join(sorted(holders[number]))}"
        table[key][0] += 1
        table[key][1] += sys.getsizeof(item)
    return table


if __name__ == "__main__":
    path = sys.argv.pop(1)
    signal.signal(signal.SIGUSR1, inspect)
    sys.exit(main())
