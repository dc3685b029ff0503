"""The sample configuration of nginx, with a real nginx and a real client through it.

The client has an event loop: a TLS connection must not be read and written in two threads.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from ..process import DEADLINE, ServerProcess, wait_until
from .redis_server import free_port
from .wire import Start, save_filters

SAMPLE = Path(__file__).parent.parent.parent / "deploy" / "nginx.conf"
MAIN = """\
daemon off;
master_process on;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/fws_server.conf;
}}
"""


class Nginx:
    """Run nginx with the sample in front of `port`; only places are put in for those of the test.

    A client trusts its certificate with `trust`.
    """

    def __init__(self, folder: Path, port: int) -> None:
        authority = trustme.CA()
        authority.issue_cert("chat.example").private_key_and_cert_chain_pem.write_to_path(
            folder / "both.pem"
        )
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.port = free_port()
        text = SAMPLE.read_text()
        for pattern, place in (
            (r"server 127\.0\.0\.1:9000;", f"server 127.0.0.1:{port};"),
            (r"listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            (r"    listen \[::\]:443 ssl;\n", ""),
            (r"ssl_certificate     .*;", f"ssl_certificate {folder}/both.pem;"),
            (r"ssl_certificate_key .*;", f"ssl_certificate_key {folder}/both.pem;"),
        ):
            text, count = re.subn(pattern, place, text)
            assert count == 1, pattern
        (folder / "fws_server.conf").write_text(text)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        self._log = folder / "error.log"
        self.process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-e", str(self._log), "-c", str(folder / "nginx.conf")],
            stdin=subprocess.DEVNULL,
        )
        wait_until(self._answers, "the start of nginx")

    def connect(self, **options: Any) -> connect:
        return connect(
            "wss://chat.example/",
            host="127.0.0.1",
            port=self.port,
            local_addr=("127.0.0.2", 0),
            ssl=self.trust,
            origin=Origin("https://chat.example"),
            **options,
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or ""
pytestmark = [pytest.mark.skipif(not NGINX, reason="nginx is not installed")]

OPTIONS = ("--trusted_proxies", "127.0.0.1", "--origins", "https://chat.example", "--reuse_port")
ECHO = """
class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"who am I?":
            msg = web_socket_instance.request.peer
        elif msg == b"where?":
            msg = f"{os.getpid()} {web_socket_instance.request.headers['Host']}"
        web_socket_instance.sendMessage(msg)
"""


@pytest.fixture
def server(start_server: Start, tmp_path: Path) -> ServerProcess:
    save_filters(tmp_path, "echo", ECHO)
    return start_server("-f", "echo", *OPTIONS)


@pytest.fixture
def nginx(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    running = Nginx(tmp_path_factory.mktemp("nginx"), server.port)
    yield running
    running.stop()


async def echo(client: ClientConnection, message: str | bytes) -> str | bytes:
    """Return the answer to a message."""
    async with asyncio.timeout(DEADLINE):
        await client.send(message)
        return await client.recv()


async def close_code(client: ClientConnection) -> int:
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_clients_come_through(nginx: Nginx, server: ServerProcess) -> None:
    """With TLS, with their own address, and with messages as long as the server takes them."""

    async def scenario() -> None:
        async with nginx.connect(max_size=None) as client:
            assert await echo(client, "who am I?") == "127.0.0.2"
            assert await echo(client, "where?") == f"{server.process.pid} chat.example"
            for message in ("x" * 1_000_000, bytes(1_000_000)):
                assert await echo(client, message) == message
            with suppress(ConnectionClosed):  # the server may be faster
                await client.send("x" * 1_100_000)
            assert await close_code(client) == 1009

    asyncio.run(scenario())


def test_a_client_cannot_make_up_its_address(nginx: Nginx) -> None:
    """What it sends itself is passed over, or taken away."""
    forged = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}

    async def scenario() -> None:
        async with nginx.connect(additional_headers=forged) as client:
            assert await echo(client, "who am I?") == "127.0.0.2"

    asyncio.run(scenario())


def test_health_is_for_those_inside(nginx: Nginx) -> None:
    """From the machine itself it is answered; for others it is not there."""
    for path, text in (("health", b"ok\n"), ("ready", b"ready\n")):
        assert ask(nginx, path, "127.0.0.1") == (200, text)
        assert ask(nginx, path, "127.0.0.2")[0] == 403


def ask(nginx: Nginx, path: str, address: str) -> tuple[int, bytes]:
    """Return a page as a client with this address gets it."""
    sock = socket.create_connection(
        ("127.0.0.1", nginx.port), DEADLINE, source_address=(address, 0)
    )
    connection = HTTPConnection("chat.example")
    connection.sock = nginx.trust.wrap_socket(sock, server_hostname="chat.example")
    with closing(connection):
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.slow
def test_a_deploy_behind_nginx(nginx: Nginx, server: ServerProcess, start_server: Start) -> None:
    """Clients are told to come again, and get through to the new server at once."""

    async def scenario() -> None:
        async with nginx.connect() as client:
            new = start_server("-f", "echo", *OPTIONS, port=server.port)
            wait_until(lambda: "storage:" in new.stderr, "the start of the new server")
            server.process.terminate()
            assert await close_code(client) == 1001
        assert server.wait() == 0
        async with nginx.connect() as client:
            assert await echo(client, "where?") == f"{new.process.pid} chat.example"

    asyncio.run(scenario())
