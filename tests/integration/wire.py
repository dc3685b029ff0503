"""A peer that may send anything, and small servers for it; for tests of the wire.

`Peer` is a socket with the words of HTTP and WebSocket. Where correct behaviour is enough, the
tests use the client of `websockets` instead.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import trustme

from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.server_protocol.handshake import Acceptor
from filtered_websocket.server_protocol.http import PlainPages
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.origins import OriginPolicy

from ..process import ServerProcess

Start = Callable[..., ServerProcess]
T = TypeVar("T")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
TIMEOUT = 10.0  # seconds; a peer that waits this long has failed
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of RFC 6455

HEADERS = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True


def head(target: str = "/", *, start: str = "", **headers: str | None) -> bytes:
    """Return a correct opening handshake, changed: `Host=None` takes a header away."""
    fields = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [start or f"GET {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Return a frame as a client sends it, or as it must not."""
    first = fin << 7 | rsv << 4 | opcode
    size, mask = len(payload), masked << 7
    if size < 126:
        header = struct.pack("!BB", first, mask | size)
    elif size < 0x10000:
        header = struct.pack("!BBH", first, mask | 126, size)
    else:
        header = struct.pack("!BBQ", first, mask | 127, size)
    # A key of zeros masks nothing, so that the payload can stay as it is.
    return header + (bytes(4) if masked else b"") + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason)


class Peer:
    """Speak bytes, HTTP or WebSocket with a server; close it with `with`."""

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, read_buffer: int | None = None
    ) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT)
        if read_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, read_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.input = self.socket.makefile("rb")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.input.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.__exit__()

    def open(self, *frames: bytes) -> Peer:
        """Shake hands, with `frames` in the same packet as the request."""
        self.send(head() + b"".join(frames))
        assert self.read_answer().status == 101
        return self

    def read(self, size: int) -> bytes:
        data = self.input.read(size)
        if len(data) < size:
            raise EOFError(data)
        return data

    def read_to_end(self) -> bytes:
        """Read until the connection ends, be it with FIN or with RST."""
        try:
            return self.input.read()
        except ConnectionResetError:
            return b""

    def read_answer(self, *, has_body: bool = True) -> Answer:
        """Read an HTTP response; its body ends where Content-Length says."""
        version, status, _ = self.input.readline().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        while line := self.input.readline().rstrip(b"\r\n"):
            name, value = line.decode("latin-1").split(":", 1)
            assert name.lower() not in headers, f"{name} was sent twice"
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", 0)) if has_body else 0
        return Answer(int(status), headers, self.read(size))

    def read_frame(self) -> Frame:
        first, size = self.read(2)
        assert not first & 0x70 and size < 128, "a server sets no reserved bit and masks nothing"
        if size == 126:
            (size,) = struct.unpack("!H", self.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.read(8))
        return Frame(first & 0x0F, self.read(size), bool(first & 0x80))

    def read_close(self) -> int:
        """Skip to the close frame, check that the connection ends with it, return its code."""
        while True:
            opcode, payload, _ = self.read_frame()
            if opcode == CLOSE:
                break
        self.send(frame(CLOSE, payload[:2]))
        assert self.read_to_end() == b""
        return int.from_bytes(payload[:2])


def ask(port: int, request: bytes) -> Answer:
    """Return the answer to one request, after which the server must end the connection."""
    with Peer(port) as peer:
        peer.send(request)
        answer = peer.read_answer(has_body=not request.startswith(b"HEAD"))
        if answer.status != 101:
            assert peer.input.read() == b"", "more than the body"
    return answer


def save_filters(folder: Path, name: str, source: str) -> None:
    """Save a module of filters; the names of `filters.base` and asyncio are imported in it."""
    imports = "import asyncio, json, os\nfrom filtered_websocket.filters.base import *\n"
    (folder / f"{name}.py").write_text(imports + source)


def local_tls(folder: Path) -> tuple[tuple[str, ...], ssl.SSLContext]:
    """Save a certificate; return the options that use it, and a client's context that trusts it."""
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    both = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    both.write_to_path(folder / "both.pem")
    return ("-key", "both.pem", "-cert", "both.pem"), context


def memory(server: ServerProcess) -> int:
    """Return the memory that a server has in use, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def in_process(
    scenario: Callable[[int, FilteredWebSocketFactory], T],
    *,
    limits: Limits | None = None,
    loopback_only: bool = True,
) -> T:
    """Serve in this process, with limits that are no options, while `scenario` runs in a thread."""

    async def serve() -> T:
        factory = FilteredWebSocketFactory(limits=limits)
        acceptor = Acceptor(
            factory,
            limits=factory.limits,
            origins=OriginPolicy(None, loopback_only=loopback_only),
            pages=PlainPages(console=False),
        )
        server = await asyncio.get_running_loop().create_server(acceptor, "127.0.0.1", 0)
        try:
            return await asyncio.to_thread(scenario, server.sockets[0].getsockname()[1], factory)
        finally:
            server.close()
            acceptor.close()
            await factory.close(0)

    return asyncio.run(serve())


WAIT_FOR_GO = """\
async def wait_for_go():
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
"""
