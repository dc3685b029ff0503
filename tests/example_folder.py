"""The folders of `examples/`, run by the commands in their READMEs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from .integration.redis_server import free_port
from .process import DEADLINE, wait_until

EXAMPLES = Path(__file__).parent.parent / "examples"
# Become a shell that hears Ctrl+C, also where the tests run in the background and ignore it.
TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""
FOLDERS = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))


class ExampleFolder:
    """A copy of one folder, in which the usual ports are replaced by free ones.

    `start` runs a command of its README in a shell, `stop` does what Ctrl+C does.
    """

    def __init__(self, name: str, folder: Path, redis_port: int = 6379) -> None:
        self.folder = folder / name
        shutil.copytree(EXAMPLES / name, self.folder)
        self.port, self.page_port = free_port(), free_port()
        ports = {"8000": self.page_port, "9000": self.port, "6379": redis_port}
        for path in self.folder.rglob("*.*"):
            if path.suffix in (".md", ".py", ".html"):
                usual = re.compile(r"\b(8000|9000|6379)\b")
                path.write_text(usual.sub(lambda m: str(ports[m[0]]), path.read_text()))
        self.commands = re.findall(r"^```sh\n(.*?)^```", self.readme, re.MULTILINE | re.DOTALL)
        ours = ("FWS_", "STORAGE_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._environ = clean | {
            # `fws_server` and `python3` are those that run the tests.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "FWS_PORT": str(self.port),
            "FWS_REDIS_PORT": str(redis_port),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._outputs: list[Path] = []

    @property
    def readme(self) -> str:
        return (self.folder / "README.md").read_text()

    @property
    def page(self) -> str:
        """The address that the README says to open."""
        (address,) = set(re.findall(r"<(http://localhost:\d+/)>", self.readme))
        return str(address)

    @property
    def output(self) -> str:
        """What all commands have printed."""
        return "".join(path.read_text() for path in self._outputs)

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start a command as a terminal does: with a process group that Ctrl+C reaches."""
        output = self.folder.parent / f"output-{len(self._outputs)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", TERMINAL, command],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        self._outputs.append(output)
        return process

    def serve(self, index: int = 0) -> ExampleFolder:
        """Run the command on top of the README, or the one with this index, and wait for it."""
        ports = [self.port, *([self.page_port] if "http.server" in self.commands[index] else [])]
        process = self.start(self.commands[index])
        wait_until(
            lambda: all(map(is_listening, ports)) or process.poll() is not None,
            "the start",
        )
        assert process.poll() is None, self.output
        return self

    def stop(self) -> None:
        """Press Ctrl+C, and wait until all processes are gone."""
        for process in self._processes:
            if is_alive(process.pid):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(DEADLINE)
            wait_until(lambda pid=process.pid: not is_alive(pid), "the end of all processes")  # type: ignore[misc]

    def kill(self) -> None:
        """End what is left; harmless after `stop`."""
        for process in self._processes:
            if is_alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)


def is_listening(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def is_alive(group: int) -> bool:
    """Tell whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
