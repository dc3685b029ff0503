"""The files in `deploy/` and the Dockerfile: what must not be lost from them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from filtered_websocket.operation.heartbeat import INTERVAL
from filtered_websocket.options import default_parser
from filtered_websocket.server import LAST_GRACE
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.sockets import HANDOVER
from filtered_websocket.storage_objects.redis import STOP_TIMEOUT

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
DEFAULTS = default_parser().parse_args([])


def unit(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit file; those that may come several times have several values."""
    settings: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            settings.setdefault(match[1], []).append(match[2])
    return settings


# systemd


def test_the_service_tells_systemd_how_it_is() -> None:
    """Start and stop are told, a stuck event loop is restarted, a crash too."""
    service = unit("fws_server.service")
    assert service["Type"] == ["notify"]
    assert float(service["WatchdogSec"][0]) >= 4 * INTERVAL
    assert service["Restart"] == ["on-failure"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_the_service_has_the_time_to_drain() -> None:
    """systemd kills it only when all that a stop may take is over."""
    longest = (
        DEFAULTS.drain_delay
        + HANDOVER
        + DEFAULTS.drain_seconds
        + Limits().close_timeout
        + 3 * LAST_GRACE
        + STOP_TIMEOUT
    )
    assert float(unit("fws_server.service")["TimeoutStopSec"][0]) > longest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("KillMode", "mixed"),
    ],
)
def test_the_service_may_do_little(name: str, value: str) -> None:
    """What an attacker would have of the server is its port and its memory."""
    assert unit("fws_server.service")[name] == [value]


def test_the_service_may_do_what_the_server_does() -> None:
    """It asks for the limit on open files, which @resources would forbid."""
    service = unit("fws_server.service")
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert int(service["LimitNOFILE"][0]) > 10_000
    assert "MemoryMax" in service


def test_two_instances_of_the_service_are_one_user() -> None:
    """Else the kernel would not let them share a port."""
    assert unit("fws_server.service")["User"] == ["fws"]


def test_the_socket_is_on_the_default_port() -> None:
    """It stands for what the server would open itself."""
    assert unit("fws_server.socket")["ListenStream"] == [f"127.0.0.1:{DEFAULTS.port}"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("name", ["fws_server.service", "fws_server.socket"])
def test_systemd_understands_it(name: str, tmp_path: Path) -> None:
    """No setting is unknown or wrong; the program itself is elsewhere."""
    for path in DEPLOY.glob("fws_server.*"):
        text = path.read_text().replace("/opt/fws/bin/fws_server", sys.executable)
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_it_hardened(tmp_path: Path) -> None:
    """Its own measure of exposure, from 0 to 10, is low."""
    shutil.copy(DEPLOY / "fws_server.service", tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", tmp_path / "fws_server.service"],
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level .*: (\d+\.\d)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 2


# Docker


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    return [rest for found, rest in instructions() if found == name][-1]


def test_the_image_is_slim_and_has_two_stages() -> None:
    """What builds it stays behind."""
    assert [rest for name, rest in instructions() if name == "FROM"] == [
        "python:3.13-slim AS build",
        "python:3.13-slim",
    ]
    assert ("COPY", "--from=build /opt/fws /opt/fws") in instructions()


def test_the_container_runs_as_nobody_special() -> None:
    """By number, so that Kubernetes can see that it is not root."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_signals_reach_the_server() -> None:
    """No shell stands between, and the arguments of `docker run` are those of the server."""
    assert json.loads(last("ENTRYPOINT")) == ["fws_server"]
    assert "CMD" not in {name for name, _ in instructions()}


def test_only_what_is_needed_goes_into_the_image() -> None:
    """What the Dockerfile copies is what .dockerignore lets in."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    wanted = {name for names in copied for name in names if not name.startswith(("-", "/"))}
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == wanted
    assert all((ROOT / name).exists() for name in wanted)


HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"


@pytest.mark.skipif(not shutil.which(HADOLINT), reason="hadolint is not installed")
def test_the_linter_of_dockerfiles_has_no_complaint() -> None:
    """Hadolint knows what is easily got wrong."""
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


# Caddy; nginx and the health check run for real in tests/integration


def test_caddy_passes_on_to_the_server() -> None:
    """Its braces match, and its lines say what the manual promises."""
    lines = [line.strip() for line in (DEPLOY / "Caddyfile").read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    assert sum(line.endswith("{") for line in lines) == lines.count("}")
    assert lines[0] == "chat.example {"
    for line in ("reverse_proxy 127.0.0.1:9000 {", "health_uri /ready", "header_up -Forwarded"):
        assert line in lines


@pytest.mark.skipif(not shutil.which("caddy"), reason="caddy is not installed")
def test_caddy_understands_it() -> None:
    """No directive is unknown."""
    done = subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
