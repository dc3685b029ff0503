"""TLS: `wss://` is the same server, with certificates as operators have them."""

from __future__ import annotations

import ssl
import warnings
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ..process import ServerProcess
from .wire import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    Start,
    close_frame,
    frame,
    head,
    save_filters,
)

TLS = ("-key", "key.pem", "-cert", "cert.pem")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    """Write key.pem and cert.pem of `localhost`; return a client's context that trusts them."""
    save_certificate(authority.issue_cert("localhost", "127.0.0.1"), tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def save_certificate(certificate: trustme.LeafCert, folder: Path) -> None:
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)


def assert_served(server: ServerProcess, trust: ssl.SSLContext) -> None:
    with Peer(server.port, tls=trust) as client:
        assert client.open(frame(PING, b"?")).read_frame() == Frame(PONG, b"?")


def test_large_messages_are_broadcast_over_tls(start_server: Start, trust: ssl.SSLContext) -> None:
    """Many TLS records make one message again, in both directions and types."""
    server = start_server("-f", "broadcast_messages", *TLS)
    messages = [
        (BINARY, b"x" * 900_000),
        (TEXT, b"text" * 100_000),
        (TEXT, b""),
        (BINARY, b"end"),
    ]
    with Peer(server.port, tls=trust) as a, Peer(server.port, tls=trust) as b:
        a.open()
        b.open()
        for opcode, payload in messages:
            a.send(frame(opcode, payload))
            assert b.read_frame() == Frame(opcode, payload)
        b.send(frame(TEXT, b"back"))
        assert a.read_frame() == Frame(TEXT, b"back")


def test_pages_are_served_over_tls(start_server: Start, trust: ssl.SSLContext) -> None:
    """The console and the refusals arrive whole, and the connection ends with them."""
    port = start_server("-f", *TLS).port
    answers = {b"GET / HTTP/1.0\r\n\r\n": 200, head(Host=None): 400, head(X="x" * 60_000): 431}
    for request, status in answers.items():
        with Peer(port, tls=trust) as peer:
            peer.send(request)
            answer = peer.read_answer()
            assert (answer.status, peer.read_to_end()) == (status, b"")


def test_tls_uses_the_fast_transports(
    start_server: Start, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    """With TLS the transport is aiofastnet's, without it is the event loop's own."""
    save_filters(
        tmp_path,
        "transport",
        """
class Transport(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage(type(web_socket_instance.transport).__module__)
""",
    )
    with Peer(start_server("-f", "transport", *TLS).port, tls=trust) as client:
        assert client.open().read_frame().payload.startswith(b"aiofastnet")
    with Peer(start_server("-f", "transport").port) as client:
        assert not client.open().read_frame().payload.startswith(b"aiofastnet")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_current_versions_of_tls_are_spoken(
    start_server: Start, trust: ssl.SSLContext, version: str
) -> None:
    """TLS 1.2 and 1.3 both work."""
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion[version]
    with Peer(start_server("-f", *TLS).port, tls=trust) as client:
        client.open()
        assert client.socket.version() == version.replace("_", ".")  # type: ignore[attr-defined]


def test_tls_below_1_2_is_refused(start_server: Start, trust: ssl.SSLContext) -> None:
    """A client that speaks nothing newer gets no connection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trust.minimum_version = ssl.TLSVersion.TLSv1
        trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    port = start_server("-f", *TLS).port
    with pytest.raises(ssl.SSLError):
        Peer(port, tls=trust)


def test_a_certificate_file_may_hold_a_chain(start_server: Start, tmp_path: Path) -> None:
    """Clients that know only the root get the certificates in between from the server."""
    root = trustme.CA()
    between = root.create_child_ca()
    save_certificate(between.issue_cert("localhost"), tmp_path)
    context = ssl.create_default_context()
    root.configure_trust(context)
    assert_served(start_server("-f", *TLS), context)


def test_an_encrypted_key_is_opened_with_the_password(
    start_server: Start, trust: ssl.SSLContext, tmp_path: Path
) -> None:
    """The password comes from the environment, where no process list shows it."""
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    encryption = BestAvailableEncryption(b"open sesame")
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    )
    server = start_server("-f", *TLS, environ={"FWS_KEY_PASSWORD": "open sesame"})
    assert_served(server, trust)


@pytest.mark.parametrize(
    "rubbish", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" * 50, b""]
)
def test_rubbish_instead_of_a_tls_hello_is_no_news(
    start_server: Start, trust: ssl.SSLContext, rubbish: bytes
) -> None:
    """It ends that connection without a traceback in the log, and the next client is served."""
    server = start_server("-f", *TLS)
    port = server.port
    with Peer(port) as peer:
        peer.send(rubbish)
        if rubbish:
            peer.read_to_end()
    assert_served(server, trust)
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    assert " ERROR " not in server.stderr


def test_a_tls_client_that_is_reset_leaves_no_trace(
    start_server: Start, trust: ssl.SSLContext
) -> None:
    """A connection that breaks off without TLS's goodbye is an ordinary end."""
    server = start_server("-f", "broadcast_messages", *TLS)
    with Peer(server.port, tls=trust) as stays:
        stays.open()
        Peer(server.port, tls=trust).open(frame(TEXT, b"hello")).reset()
        assert stays.read_frame() == Frame(TEXT, b"hello")
        stays.send(close_frame(1000))
        assert stays.read_frame().payload[:2] == (1000).to_bytes(2)
    assert server.stop() == 0
    assert " ERROR " not in server.stderr


def test_wss_pages_are_checked_by_their_origin_too(
    start_server: Start, trust: ssl.SSLContext
) -> None:
    """The same rule holds over TLS."""
    port = start_server("-f", *TLS).port
    for origin, status in (("https://localhost", 101), ("https://evil.example", 403)):
        with Peer(port, tls=trust) as peer:
            peer.send(head(Origin=origin))
            assert peer.read_answer().status == status
