"""The reader of the tutorial: saves its files and runs its commands, all read from the page."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from .example_folder import TERMINAL, is_alive, is_listening
from .integration.redis_server import free_port
from .process import DEADLINE, wait_until

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
FILES = "../examples/tutorial/"

# What a reader does once for a machine; the tests run where it has been done.
INSTALLS = re.compile(r"(sudo apt-get|pip) install |\. \.venv/")
SERVES = re.compile(r"^(?!.*--(check|new_filter)).*\b(make run|fws_server|nginx) ?", re.DOTALL)


class Terminal:
    """A shell in `folder` that runs `command`, with its output; `ctrl_c` ends it."""

    def __init__(self, command: str, folder: Path, environ: dict[str, str], output: Path) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", TERMINAL, command],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> str:
        """Wait until the command has ended, and return what it has printed."""
        assert self._process.wait(DEADLINE * 2) == 0, self.output
        return self.output

    def ctrl_c(self, number: int = signal.SIGINT) -> None:
        """End all that runs in it; harmless when nothing does."""
        if is_alive(self._process.pid):
            os.killpg(self._process.pid, number)
        self._process.wait(DEADLINE)
        wait_until(lambda: not is_alive(self._process.pid), "the end of all processes")


class Reader:
    """Somebody with the page and an empty home; only its ports are replaced by free ones."""

    def __init__(self, home: Path, redis_port: int = 6379) -> None:
        self._home = home
        self.folder = home / "chat"
        self.folder.mkdir()
        self._ports = {port: free_port() for port in (8443, 9000, 9001, 9002, 9100)}
        self._ports[6379] = redis_port
        page = self._with_free_ports(PAGE.read_text())
        parts = re.split(r"^## (?:\d+\. )?(.*)\n", page, flags=re.MULTILINE)
        self.sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        ours = ("FWS_", "STORAGE_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self._environ = clean | {
            # `fws_server` and `pytest` are those that run the tests.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "FWS_PORT": str(self._ports[9000]),
        }
        self.terminals: list[Terminal] = []

    def port(self, of_the_page: int) -> int:
        """Return the port that stands for one of the page."""
        return self._ports[of_the_page]

    def addresses(self, heading: str) -> list[str]:
        """Return the addresses that a section says to open, each once."""
        return list(dict.fromkeys(re.findall(r"<(https?://\S+)>", self.sections[heading])))

    def quote(self, heading: str, text: str) -> str:
        """Return a text that a section says will be seen."""
        assert f"`{text}`" in re.sub(r"\s+", " ", self.sections[heading]), text
        return text

    def follow(self, heading: str) -> list[Terminal]:
        """Do what a section says, with the files of those before; return what was started.

        What serves goes on, in a terminal of its own; the rest ends before the next command.
        """
        self._save_files_before(heading)
        started: list[Terminal] = []
        for kind, text in self._blocks(heading):
            if kind == "file":
                self._save(text)
            elif kind == "sh" and not INSTALLS.search(text):
                started.append(self._run(text))
        return started

    def see(self, heading: str) -> None:
        """Wait until all terminals together have printed each line that a section shows."""
        for kind, text in self._blocks(heading):
            for line in text.splitlines() if kind == "text" else ():
                wait_until(lambda line=line: self._is_printed(line), line)  # type: ignore[misc]

    def commands(self, heading: str) -> list[str]:
        """Return what a section says to type, block by block."""
        return [text for kind, text in self._blocks(heading) if kind == "sh"]

    def shell(self, command: str) -> Terminal:
        """Run something that is not on the page."""
        return self._run(command)

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.ctrl_c(signal.SIGKILL)

    def _blocks(self, heading: str) -> list[tuple[str, str]]:
        """Return what stands in frames: files to save, commands, and what is printed."""
        blocks = []
        for head, body in re.findall(
            r"^```([^\n]+)\n(.*?)^```", self.sections[heading], re.MULTILINE | re.DOTALL
        ):
            kind, _, path = head.partition(" ")
            if kind != "{literalinclude}":
                assert kind in ("sh", "text"), head
                blocks.append((kind, body))
            elif path.startswith(FILES):
                assert f"[`{path.removeprefix(FILES)}`]({path})" in self.sections[heading]
                blocks.append(("file", path.removeprefix(FILES)))
        return blocks

    def _save_files_before(self, heading: str) -> None:
        for earlier in self.sections:
            if earlier == heading:
                return
            for kind, text in self._blocks(earlier):
                if kind == "file":
                    self._save(text)

    def _save(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._with_free_ports((ROOT / "examples/tutorial" / name).read_text()))

    def _run(self, command: str) -> Terminal:
        environ = dict(self._environ)
        if "storage_objects.redis" in command:
            environ["FWS_REDIS_PORT"] = str(self._ports[6379])
        serves = SERVES.match(command)
        output = self._home / f"output-{len(self.terminals)}.txt"
        terminal = Terminal(what_make_runs(command), self.folder, environ, output)
        self.terminals.append(terminal)
        if not serves:
            terminal.wait()
            return terminal
        named = re.findall(r"-p(?:ort)? (\d+)|_port (\d+)", command)
        ports = [int(port) for match in named for port in match if port]
        if "nginx" in command:
            ports = [self._ports[8443]]
        elif " -p " not in command:
            ports.append(self._ports[9000])
        wait_until(lambda: terminal.has_ended or all(map(is_listening, ports)), "the start")
        assert not terminal.has_ended, terminal.output
        return terminal

    def _is_printed(self, line: str) -> bool:
        pattern = ".*".join(map(re.escape, line.split("…")))
        pattern = re.sub(r"(\\ )+\d+\\ µs", r" +\\d+ µs", pattern)
        printed = "\n".join(terminal.output for terminal in self.terminals)
        return re.search(f"^{pattern}$", printed, re.MULTILINE) is not None

    def _with_free_ports(self, text: str) -> str:
        usual = re.compile(rf"\b({'|'.join(map(str, self._ports))})\b")
        return usual.sub(lambda match: str(self._ports[int(match[0])]), text)


def what_make_runs(command: str) -> str:
    """Return a command; for `make run`, what its recipe does where the server is installed."""
    if command != "make run\n":
        return command
    make = shutil.which("make")
    assert make is not None
    recipe = subprocess.run(
        [make, "--dry-run", "--no-print-directory", "run"], cwd=ROOT, capture_output=True, text=True
    )
    last = recipe.stdout.splitlines()[-1]
    assert last.startswith(".venv/bin/"), recipe
    return last.removeprefix(".venv/bin/")
