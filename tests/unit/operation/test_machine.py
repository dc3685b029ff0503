"""How many clients the machine has room for."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from filtered_websocket.operation import machine
from filtered_websocket.operation.machine import (
    GIB,
    IDLE_CLIENT,
    IDLE_TLS_CLIENT,
    MIB,
    SERVER_ALONE,
    Memory,
    Room,
    find_memory,
    room,
    warning_of,
)
from filtered_websocket.server_protocol.limits import Limits

MACHINE = Memory(16 * GIB, "the machine")
SMALL = Memory(SERVER_ALONE + 100 * IDLE_CLIENT, "the cgroup")


# Files


def test_the_limit_on_open_files_is_raised() -> None:
    """As far as the system lets this process go."""
    code = (
        "import resource\n"
        "from filtered_websocket.operation.machine import raise_file_limit\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "raise_file_limit()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert done.stdout.split() == [str(hard), str(hard)]


def test_a_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no reason not to start."""

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    machine.raise_file_limit()


# Room


@pytest.mark.parametrize(
    ("limits", "memory", "expected"),
    [
        (Limits(sockets=19936), MACHINE, Room(19936, "limit on open files")),
        (Limits(sockets=19936, connections=500), MACHINE, Room(500, "--max_connections")),
        (Limits(sockets=400, connections=500), MACHINE, Room(400, "limit on open files")),
        (Limits(sockets=10**9), SMALL, Room(100, "memory: 50 MiB of the cgroup")),
        (Limits(), Memory(1, "the cgroup"), Room(0, "memory: 0 MiB of the cgroup")),
    ],
)
def test_room_is_what_is_met_first(limits: Limits, memory: Memory, expected: Room) -> None:
    """Open files, --max_connections or memory: whichever is less."""
    assert room(limits, memory, tls=False) == expected


def test_with_tls_there_is_less_room() -> None:
    """A client with TLS takes more memory."""
    memory = Memory(SERVER_ALONE + 100 * IDLE_TLS_CLIENT, "the machine")
    assert room(Limits(), memory, tls=True).clients == 100
    assert room(Limits(), memory, tls=False).clients > 1000


@pytest.mark.parametrize("connections", [None, 100])
def test_what_fits_is_no_warning(connections: int | None) -> None:
    """Neither is no limit at all, which is the default."""
    assert warning_of(Limits(connections=connections, sockets=10**9), SMALL, tls=False) == ""


def test_too_many_for_the_memory() -> None:
    """The warning has what is needed, what is there, whose limit it is, and what would fit."""
    memory = Memory(512 * MIB, "the cgroup")
    assert warning_of(Limits(connections=1_000_000), memory, tls=False) == (
        "--max_connections 1000000 needs 3.3 GiB for idle clients alone, and the cgroup has "
        "512 MiB: choose at most 139167, or the server may be killed"
    )
    assert warning_of(Limits(connections=139167), memory, tls=False) == ""
    assert warning_of(Limits(connections=139167), memory, tls=True) != ""


# Memory


def make_cgroup(folder: Path, own: str, limits: dict[str, str]) -> Memory:
    (folder / "own").write_text(own)
    for name, text in limits.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return find_memory(folder / "own", folder / "cgroup")


PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
V1 = "5:cpu,cpuacct:/a\n4:memory:/fws\n0::/\n"


@pytest.mark.parametrize(
    ("own", "limits", "size"),
    [
        ("0::/fws.service\n", {"fws.service/memory.max": "1048576"}, 2**20),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1048576"}, 2**20),
        ("0::/a/b\n", {"memory.max": "1048576"}, 2**20),  # of a container, whose own path is gone
        ("0::/\n", {"memory.max": "1048576"}, 2**20),
        (V1, {"memory/fws/memory.limit_in_bytes": "1048576"}, 2**20),
        (V1, {"memory/memory.limit_in_bytes": "1048576"}, 2**20),
        (V1, {"memory/fws/memory.limit_in_bytes": str(2**63 - 4096)}, PHYSICAL),
        ("0::/fws.service\n", {"fws.service/memory.max": "max"}, PHYSICAL),
        ("0::/fws.service\n", {}, PHYSICAL),
    ],
)
def test_the_memory_is_the_least_that_is_allowed(
    own: str, limits: dict[str, str], size: int, tmp_path: Path
) -> None:
    """Of a cgroup and those above it, in both versions, and of the machine."""
    source = "the machine" if size == PHYSICAL else "the cgroup"
    assert make_cgroup(tmp_path, own, limits) == Memory(size, source)


def test_a_system_without_cgroups(tmp_path: Path) -> None:
    """There it is the machine's."""
    assert find_memory(tmp_path / "missing", tmp_path) == Memory(PHYSICAL, "the machine")
