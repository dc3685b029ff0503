"""The certificate for new connections. What clients see of it is in the integration tests."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from filtered_websocket import tls
from filtered_websocket.tls import Certificate
from filtered_websocket.typing import StartError

KEPT = "; the certificate from before stays in use"


def save_pair(folder: Path, not_after: datetime | None = None) -> None:
    leaf = trustme.CA().issue_cert("localhost", not_after=not_after)
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(leaf.cert_chain_pems[0].bytes())


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, its certificate, the key encrypted, another key, and rubbish."""
    folder = tmp_path_factory.mktemp("tls")
    leaf, other = (trustme.CA().issue_cert("localhost") for _ in range(2))
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "cert.pem", append=True)
    other.private_key_pem.write_to_path(folder / "other.pem")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    (folder / "encrypted.pem").write_bytes(encrypted)
    (folder / "rubbish.pem").write_bytes(b"\xffrubbish")
    return folder


@pytest.fixture(autouse=True)
def in_the_folder(tls_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tls_files)
    monkeypatch.delenv("FWS_KEY_PASSWORD", raising=False)


@pytest.mark.parametrize(
    ("key", "password"), [("key.pem", None), ("key.pem", "x"), ("encrypted.pem", "open sesame")]
)
def test_a_pair_makes_a_context(
    key: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.2 at least; an encrypted key's password comes from the environment."""
    if password is not None:
        monkeypatch.setenv("FWS_KEY_PASSWORD", password)
    assert Certificate(key, "cert.pem").context.minimum_version == ssl.TLSVersion.TLSv1_2


ENCRYPTED = (
    "-key encrypted.pem is encrypted, and FWS_KEY_PASSWORD is not set: it needs the password"
)
NO_PEM = "-key {} and -cert {} are not a key and a certificate in PEM"


@pytest.mark.parametrize(
    ("key", "cert", "expected"),
    [
        ("nothing.pem", "cert.pem", "-key nothing.pem: No such file or directory"),
        ("key.pem", "nothing.pem", "-cert nothing.pem: No such file or directory"),
        (".", "cert.pem", "-key .: Is a directory"),
        ("other.pem", "cert.pem", "-key other.pem is not the key of -cert cert.pem"),
        ("encrypted.pem", "cert.pem", ENCRYPTED),
        ("rubbish.pem", "cert.pem", NO_PEM.format("rubbish.pem", "cert.pem")),
        ("key.pem", "rubbish.pem", NO_PEM.format("key.pem", "rubbish.pem")),
        ("cert.pem", "key.pem", NO_PEM.format("cert.pem", "key.pem")),
        ("encrypted.pem", "rubbish.pem", NO_PEM.format("encrypted.pem", "rubbish.pem")),
    ],
)
def test_a_pair_that_cannot_be_used(key: str, cert: str, expected: str) -> None:
    """One line names the files as they were given, and what is wrong with them."""
    with pytest.raises(StartError) as error:
        Certificate(key, cert)
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("password", ["wrong", "x" * 2000])
def test_a_wrong_password(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that names the variable, not the password."""
    monkeypatch.setenv("FWS_KEY_PASSWORD", password)
    with pytest.raises(StartError, match="FWS_KEY_PASSWORD") as error:
        Certificate("encrypted.pem", "cert.pem")
    assert password not in str(error.value)


@pytest.mark.parametrize("option", ["-key", "-cert"])
def test_a_path_that_no_file_can_have(option: str) -> None:
    """A NUL byte in a path, which a config file can hold, is told of with its option."""
    files = {"-key": "key.pem", "-cert": "cert.pem"} | {option: "a\0b"}
    with pytest.raises(StartError, match=f"{option} a\0b: embedded null byte"):
        Certificate(files["-key"], files["-cert"])


# Renewal


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a pair that a test may change."""
    monkeypatch.chdir(tmp_path)
    save_pair(tmp_path)
    return tmp_path


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last call, from info on, each with its level."""
    caplog.set_level(logging.INFO, tls.logger.name)

    def take() -> list[str]:
        lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return lines

    return take


@pytest.mark.parametrize("year", [2049, 2050, 9999])
def test_reloading_tells_the_expiry(
    pair: Path, messages: Callable[[], list[str]], year: int
) -> None:
    """A new pair has a context of its own, and its expiry is told, in both spellings of dates."""
    certificate = Certificate("key.pem", "cert.pem")
    before = certificate.context
    assert messages() == []
    save_pair(pair, datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC))
    certificate.reload()
    assert certificate.context is not before
    (line,) = messages()
    assert line == f"INFO -cert cert.pem is in use, valid until {year}-01-02 03:04:05+00:00"


def test_an_expired_certificate_is_used_with_a_warning(
    pair: Path, messages: Callable[[], list[str]]
) -> None:
    """Some clients still take it, so that it is better than none; at the start too."""
    save_pair(pair, datetime(2020, 1, 1, tzinfo=UTC))
    certificate = Certificate("key.pem", "cert.pem")
    certificate.reload()
    warning = "WARNING -cert cert.pem is in use, but expired at 2020-01-01 00:00:00+00:00"
    assert messages() == [warning, warning]


@pytest.mark.parametrize("rubbish", [b"", b"\x30", b"\x30\x82", b"\x30\x03\x30\x01\x02"])
def test_a_date_that_cannot_be_read_is_left_out(
    pair: Path, messages: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, rubbish: bytes
) -> None:
    """What OpenSSL takes is used, even where its date is beyond us."""
    certificate = Certificate("key.pem", "cert.pem")
    monkeypatch.setattr(ssl, "PEM_cert_to_DER_cert", lambda pem: rubbish)
    certificate.reload()
    assert messages() == ["INFO -cert cert.pem is in use, valid until a time that cannot be read"]


def test_a_pair_that_cannot_be_used_changes_nothing(
    pair: Path, messages: Callable[[], list[str]]
) -> None:
    """The old one stays whole, and each demand to reload is answered."""
    certificate = Certificate("key.pem", "cert.pem")
    before = certificate.context
    (pair / "cert.pem").write_bytes(b"")
    for _ in range(2):
        certificate.reload()
        (line,) = messages()
        assert line.startswith("ERROR -key key.pem and -cert cert.pem are not a key")
        assert line.endswith(KEPT)
    assert certificate.context is before


class Looks:
    """Let `watch` look at the files when a test says so, instead of each second."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.waits = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        assert seconds == tls.LOOK_EVERY
        self.waits.release()
        await self.gate.acquire()

    async def look(self) -> None:
        self.gate.release()
        await self.waits.acquire()


Watching = Callable[[Certificate], AbstractAsyncContextManager[Looks]]


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    """Watch a certificate, one look at a time."""

    @asynccontextmanager
    async def watching(certificate: Certificate) -> AsyncIterator[Looks]:
        looks = Looks()
        monkeypatch.setattr(asyncio, "sleep", looks.sleep)
        task = asyncio.get_running_loop().create_task(certificate.watch())
        await looks.waits.acquire()
        yield looks
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return watching


async def test_changed_files_are_loaded_once_they_have_settled(
    pair: Path, messages: Callable[[], list[str]], watching: Watching
) -> None:
    """A look that finds a change waits for the next; without a change nothing is loaded."""
    certificate = Certificate("key.pem", "cert.pem")
    before = certificate.context
    async with watching(certificate) as looks:
        await looks.look()
        await looks.look()
        for _ in range(3):
            save_pair(pair)
            await looks.look()
            assert certificate.context is before
        await looks.look()
        renewed = certificate.context
        assert renewed is not before
        await looks.look()
        assert certificate.context is renewed
    assert len(messages()) == 1


async def test_a_broken_pair_is_told_once_and_tried_until_it_works(
    pair: Path, messages: Callable[[], list[str]], watching: Watching
) -> None:
    """Each reason is one line; what was out of reach for a while needs no change to be loaded."""
    shutil.copytree(pair, pair / "other")
    certificate = Certificate("key.pem", "cert.pem")
    before = certificate.context
    async with watching(certificate) as looks:
        save_pair(pair)
        shutil.copy(pair / "other" / "cert.pem", pair)
        for _ in range(4):
            await looks.look()
        assert messages() == [f"ERROR -key key.pem is not the key of -cert cert.pem{KEPT}"]
        os.unlink(pair / "key.pem")
        for _ in range(4):
            await looks.look()
        assert messages() == [f"ERROR -key key.pem: No such file or directory{KEPT}"]
        assert certificate.context is before
        shutil.copy(pair / "other" / "key.pem", pair)
        for _ in range(2):
            await looks.look()
        assert certificate.context is not before
        (line,) = messages()
        assert line.startswith("INFO -cert cert.pem is in use, valid until ")


@pytest.mark.parametrize("link", ["data", "key.pem and cert.pem"])
async def test_links_are_followed(
    pair: Path, messages: Callable[[], list[str]], watching: Watching, link: str
) -> None:
    """A link that is swapped, of the folder or of each file, is a change."""
    for version in ("1", "2"):
        (pair / version).mkdir()
        save_pair(pair / version)
    targets = {"data": "{}"} if link == "data" else {n: "{}/" + n for n in ("key.pem", "cert.pem")}

    def point_to(version: str) -> None:
        for name, target in targets.items():
            (pair / "new").symlink_to(target.format(version))
            os.rename(pair / "new", pair / name)

    point_to("1")
    folder = "data/" if link == "data" else ""
    certificate = Certificate(f"{folder}key.pem", f"{folder}cert.pem")
    async with watching(certificate) as looks:
        point_to("2")
        await looks.look()
        await looks.look()
        assert len(messages()) == 1
        if link != "data":  # what a link leads to can change beneath it
            save_pair(pair / "2")
            await looks.look()
            await looks.look()
            assert len(messages()) == 1
