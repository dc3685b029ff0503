"""How many clients this machine has room for."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..server_protocol.limits import Limits

__all__ = [
    "Memory",
    "Room",
    "find_memory",
    "raise_file_limit",
    "room",
    "sockets_left",
    "warning_of",
]

KIB, MIB, GIB = 2**10, 2**20, 2**30

# What one idle client takes, and the server without any; measured: docs/limits.md, "How much memory
# that is". With TLS it is mostly the state of OpenSSL and two buffers (docs/performance.md).
IDLE_CLIENT = int(3.4 * KIB)
IDLE_TLS_CLIENT = 48 * KIB
SERVER_ALONE = 50 * MIB
SPARE_FILES = 64  # descriptors for all that is no client: listeners, Redis, files of filters

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


class Memory(NamedTuple):
    """So many bytes, and who says so."""

    size: int
    source: str


class Room(NamedTuple):
    """So many clients, and what bounds them."""

    clients: int
    bound: str


def raise_file_limit() -> None:
    """Let this process open as many files as it may: each client is one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # "unlimited" is more than some systems take
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def sockets_left() -> int | None:
    """Return how many sockets of clients the limit on open files leaves."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - min(SPARE_FILES, limit // 2)


def room(limits: Limits, memory: Memory, *, tls: bool) -> Room:
    """Return for how many idle clients there is room, and which bound is met first."""
    found = [Room(_fitting(memory, tls), f"memory: {_shown(memory.size)} of {memory.source}")]
    if limits.sockets is not None:
        found.append(Room(limits.sockets, "limit on open files"))
    if limits.connections is not None:
        found.append(Room(limits.connections, "--max_connections"))
    return min(found, key=lambda it: it.clients)


def warning_of(limits: Limits, memory: Memory, *, tls: bool) -> str:
    """Return what is wrong with `--max_connections` on this machine, "" when nothing is."""
    if limits.connections is None:
        return ""
    needed = SERVER_ALONE + limits.connections * _idle_client(tls)
    if needed <= memory.size:
        return ""
    return (
        f"--max_connections {limits.connections} needs {_shown(needed)} for idle clients alone, "
        f"and {memory.source} has {_shown(memory.size)}: choose at most "
        f"{_fitting(memory, tls)}, or the server may be killed"
    )


def find_memory(own_cgroups: Path = OWN_CGROUPS, cgroups: Path = CGROUPS) -> Memory:
    """Return the memory of the machine, or of this process' cgroup where that may take less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = [Memory(machine, "the machine")]
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:  # no Linux
        return found[0]
    for line in lines:  # hierarchy-ID:controller-list:cgroup-path, see cgroups(7)
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits_from(cgroups, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits_from(cgroups / "memory", path, "memory.limit_in_bytes")
    return min(found)


def _limits_from(root: Path, path: str, name: str) -> list[Memory]:
    """Return the limits of a cgroup and of all above it; those not there, as in a container."""
    place = root / path.strip("/")
    found = []
    for folder in (place, *place.parents):
        with suppress(OSError, ValueError):  # no such file; "max"
            found.append(Memory(int((folder / name).read_text()), "the cgroup"))
        if folder == root:
            break
    return found


def _fitting(memory: Memory, tls: bool) -> int:
    return max(0, memory.size - SERVER_ALONE) // _idle_client(tls)


def _idle_client(tls: bool) -> int:
    return IDLE_TLS_CLIENT if tls else IDLE_CLIENT


def _shown(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"
