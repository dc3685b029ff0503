"""Renewed certificates: new connections get them, open ones do not notice."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ..process import ServerProcess, wait_until
from .test_event_loops import LOOPS
from .wire import PING, PONG, Frame, Peer, Start, frame

TLS = ("-key", "key.pem", "-cert", "cert.pem")
KEPT = "; the certificate from before stays in use"
LOADED = "INFO filtered_websocket.tls -cert cert.pem is in use, valid until "

Begin = Callable[..., ServerProcess]


class Issuer:
    """Save pairs of `localhost` to a folder, and tell which of them a server shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.save()

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def save(
        self, folder: Path | None = None, password: bytes | None = None, **settings: Any
    ) -> None:
        """Put a new pair in place of the old, as a tool that renews certificates does."""
        folder = folder or self.folder
        leaf = self.authority.issue_cert("localhost", **settings)
        key = leaf.private_key_pem.bytes()
        if password is not None:
            key = load_pem_private_key(key, None).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
            )
        for name, content in (("key.pem", key), ("cert.pem", leaf.cert_chain_pems[0].bytes())):
            (folder / "new").write_bytes(content)
            os.replace(folder / "new", folder / name)

    def shown(self, server: ServerProcess) -> str:
        """Return the serial number that a new client sees."""
        with Peer(server.port, tls=self.trust()) as peer:
            return serial(peer)


def serial(peer: Peer) -> str:
    return peer.socket.getpeercert()["serialNumber"]  # type: ignore[attr-defined, no-any-return]


def assert_served(peer: Peer) -> None:
    peer.send(frame(PING, b"?"))
    while (received := peer.read_frame()).opcode == PING:
        pass  # the server wants to know, too
    assert received == Frame(PONG, b"?")


def complaints(server: ServerProcess) -> list[str]:
    return [line for line in server.stderr.splitlines() if " ERROR " in line]


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return Issuer(tmp_path)


@pytest.fixture(params=LOOPS)
def begin(start_server: Start, request: pytest.FixtureRequest) -> Begin:
    """Start a server with TLS, on each event loop."""

    def begin(*arguments: str, **settings: Any) -> ServerProcess:
        options = arguments or TLS
        return start_server("-f", *options, command=LOOPS[request.param], **settings)

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("hang_up", [False, True], ids=["by itself", "SIGHUP"])
def test_a_renewed_certificate_is_for_new_connections(
    begin: Begin, issuer: Issuer, hang_up: bool
) -> None:
    """Open connections, and one in the middle of its TLS handshake, live on."""
    server = begin()
    with Peer(server.port, tls=issuer.trust()) as client, Peer(server.port) as slow:
        client.open()
        before = serial(client)
        issuer.save()
        if hang_up:
            server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: LOADED in server.stderr, "the renewal")
        assert issuer.shown(server) != before
        assert_served(client)
        slow.socket = issuer.trust().wrap_socket(slow.socket, server_hostname="localhost")
        slow.input = slow.socket.makefile("rb")
        assert_served(slow.open())
    assert server.stop() == 0
    assert server.stderr.count(LOADED) == 1
    assert complaints(server) == []


@pytest.mark.slow
def test_a_swapped_link_is_a_renewal(begin: Begin, issuer: Issuer, tmp_path: Path) -> None:
    """Only the link of a folder changes, as Kubernetes does it."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        issuer.save(tmp_path / version)
    (tmp_path / "data").symlink_to("1")
    server = begin("-key", "data/key.pem", "-cert", "data/cert.pem")
    before = issuer.shown(server)
    (tmp_path / "next").symlink_to("2")
    os.replace(tmp_path / "next", tmp_path / "data")
    wait_until(lambda: issuer.shown(server) != before, "the renewal")


@pytest.mark.slow
def test_a_broken_pair_keeps_the_old_one(begin: Begin, issuer: Issuer, tmp_path: Path) -> None:
    """Each thing that is wrong is told once; the pair is loaded when it is whole."""
    server = begin()
    before = issuer.shown(server)
    key = (tmp_path / "key.pem").read_bytes()
    issuer.save()
    good = (tmp_path / "key.pem").read_bytes()
    states = {
        key: "-key key.pem is not the key of -cert cert.pem",
        good[:100]: "-key key.pem and -cert cert.pem are not a key and a certificate in PEM",
        b"": "-key key.pem and -cert cert.pem are not a key and a certificate in PEM",
    }
    for number, (content, expected) in enumerate(states.items(), 1):
        (tmp_path / "key.pem").write_bytes(content)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(complaints(server)) == number, expected)  # noqa: B023
        assert expected in complaints(server)[-1]
        assert KEPT in complaints(server)[-1]
        assert issuer.shown(server) == before
    (tmp_path / "key.pem").write_bytes(good)
    wait_until(lambda: LOADED in server.stderr, "the renewal")
    assert issuer.shown(server) != before
    assert len(complaints(server)) == len(states)


def test_the_kind_of_key_may_change(begin: Begin, issuer: Issuer) -> None:
    """From RSA to ECDSA: clients that prefer RSA do not get the old pair any more."""
    issuer.save(key_type=trustme.KeyType.RSA)
    server = begin()
    issuer.shown(server)
    issuer.save(key_type=trustme.KeyType.ECDSA)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: LOADED in server.stderr, "the renewal")
    trust = issuer.trust()
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.set_ciphers("ECDHE+aRSA")
    with pytest.raises(ssl.SSLError):
        Peer(server.port, tls=trust)
    issuer.shown(server)


def test_an_encrypted_key_is_renewed_with_the_same_password(begin: Begin, issuer: Issuer) -> None:
    """The password is that of the start; a key with another one keeps the old pair."""
    issuer.save(password=b"open sesame")
    server = begin(environ={"FWS_KEY_PASSWORD": "open sesame"})
    before = issuer.shown(server)
    issuer.save(password=b"another")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: complaints(server), "the complaint")
    assert "FWS_KEY_PASSWORD is not its password" in complaints(server)[0]
    assert issuer.shown(server) == before
    issuer.save(password=b"open sesame")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: LOADED in server.stderr, "the renewal")
    assert issuer.shown(server) != before


def test_an_expired_certificate_is_used_with_a_warning(begin: Begin, issuer: Issuer) -> None:
    """It is what the operator gave; the log says that clients will not like it."""
    server = begin()
    issuer.shown(server)
    issuer.save(not_after=datetime(2020, 1, 1, tzinfo=UTC))
    server.process.send_signal(signal.SIGHUP)
    warning = "WARNING filtered_websocket.tls -cert cert.pem is in use, but expired at 2020-01-01"
    wait_until(lambda: warning in server.stderr, "the warning")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        issuer.shown(server)


def test_hanging_up_without_tls(start_server: Start) -> None:
    """There is nothing to reload, which the log says; the server goes on."""
    server = start_server("-f")
    with Peer(server.port) as client:
        client.open()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "there is no certificate to reload" in server.stderr, "the line")
        assert_served(client)
    assert server.stop() == 0


def test_a_half_made_tls_connection_does_not_delay_the_stop(begin: Begin, issuer: Issuer) -> None:
    """A client that has sent half a hello is given up, before its time is over."""
    server = begin(*TLS, "--drain_seconds", "600", "--log_level", "debug")
    with Peer(server.port) as half:
        half.send(b"\x16\x03\x01\x02\x00\x01")
        issuer.shown(server)
        assert server.stop() == 0
    assert complaints(server) == []
    assert "taking longer" not in server.stderr
