"""The certificate for new connections, and its renewal while the server runs.

What belongs here: loading key and certificate, and noticing that the files have changed. What does
not: TLS on a connection, which is the engine's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .typing import StartError

__all__ = ["Certificate"]

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds

Stamp = list[tuple[int, ...] | None]

_first_certificate = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
).search


class Certificate:
    """Hold the TLS context for new connections, and renew it from its two files.

    Each pair of files has a context of its own. One that is in use is never changed: loading into
    it could fail halfway, and would keep an old RSA pair beside a new ECDSA one. Raises StartError.
    """

    def __init__(self, key: str, cert: str) -> None:
        self._key = key
        self._cert = cert
        self._complaint = ""
        self._loaded = self._stamp()  # Before loading: a change meanwhile is found at the next look
        self.context = self._load()
        self._tell_expiry(logging.DEBUG)

    def reload(self) -> None:
        """Load the files now, changed or not; where they cannot be used, keep what is there."""
        self._complaint = ""
        self._renew()

    async def watch(self) -> None:
        """Load the files whenever they have changed and then stayed the same between two looks."""
        seen = self._loaded
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._stamp()
            if now == seen != self._loaded:
                self._renew()
            seen = now

    def _renew(self) -> None:
        stamp = self._stamp()
        try:
            self.context = self._load()
        except StartError as error:
            # Tried again at each look, for what was out of reach, and told once.
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.error("%s; the certificate from before stays in use", error)
            return
        self._loaded = stamp
        self._complaint = ""
        self._tell_expiry(logging.INFO)

    def _stamp(self) -> Stamp:
        """Return what tells one version of the files from the next, wherever links lead to."""
        stamp: Stamp = []
        for path in (self._key, self._cert):
            try:
                s = os.stat(path)
            except (OSError, ValueError):
                stamp.append(None)
            else:
                stamp.append((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
        return stamp

    def _load(self) -> ssl.SSLContext:
        for option, path in (("-key", self._key), ("-cert", self._cert)):
            try:
                with open(path, "rb"):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise StartError(f"{option} {path}: {reason}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        password = _KeyPassword()
        try:
            context.load_cert_chain(self._cert, self._key, password)
        except (OSError, ValueError) as error:
            raise StartError(self._load_error(error, password)) from None
        return context

    def _load_error(self, error: Exception, password: _KeyPassword) -> str:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            return f"-key {self._key} is not the key of -cert {self._cert}"
        if password.was_asked:
            advice = "not its password" if password.value else "not set: it needs the password"
            return f"-key {self._key} is encrypted, and FWS_KEY_PASSWORD is {advice}"
        return (
            f"-key {self._key} and -cert {self._cert} are not a key and a certificate in PEM "
            f"({reason})"
        )

    def _tell_expiry(self, level: int) -> None:
        expiry = _expiry(self._cert)
        if expiry is not None and expiry < datetime.now(UTC):
            logger.warning("-cert %s is in use, but expired at %s", self._cert, expiry)
        else:
            until = "a time that cannot be read" if expiry is None else expiry
            logger.log(level, "-cert %s is in use, valid until %s", self._cert, until)


class _KeyPassword:
    """Give OpenSSL the password of the key, and remember whether it asked."""

    def __init__(self) -> None:
        self.value = os.environ.get("FWS_KEY_PASSWORD", "")
        self.was_asked = False

    def __call__(self) -> str:
        self.was_asked = True
        return self.value


def _expiry(path: str) -> datetime | None:
    """Return when the first certificate of a file expires (RFC 5280 section 4.1.2.5).

    The ssl module tells it of certificates of peers only.
    """
    try:
        pem = _first_certificate(Path(path).read_bytes())
        if pem is None:
            return None
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(pem[0].decode()))
        (_, body), *_ = _elements(certificate)
        _, _, _, validity, *_ = (content for tag, content in _elements(body) if tag != VERSION)
        _, (tag, text) = _elements(validity)
        century = "%y" if tag == UTC_TIME else "%Y"
        return datetime.strptime(text.decode(), f"{century}%m%d%H%M%SZ").replace(tzinfo=UTC)
    except (OSError, ValueError, IndexError):
        return None


VERSION, UTC_TIME = 0xA0, 0x17  # tags


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of a sequence in DER (X.690 section 8.1)."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[at : at + octets])
            at += octets
        yield tag, data[at : at + size]
        at += size
