"""Write the inputs that the fuzzer begins with: `python -m tests.fuzz.seeds`."""

from __future__ import annotations

import zlib
from pathlib import Path

from filtered_websocket.frames import CLOSE, PING, PONG

from ..integration.wire import BINARY, CONTINUATION, TEXT, close_frame, frame, head

CORPUS = Path(__file__).parent / "corpus"
OFFER = "permessage-deflate; client_max_window_bits; server_max_window_bits=10"


def deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(b"\0\0\xff\xff")


def masked(opcode: int, payload: bytes) -> bytes:
    whole = bytearray(frame(opcode, payload))
    key = b"\x01\x02\x03\x04"
    start = len(whole) - len(payload)
    whole[start - 4 : start] = key
    whole[start:] = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return bytes(whole)


UTF8 = "żółw 🐢".encode()
CONVERSATIONS = {
    "text": masked(TEXT, b"hello"),
    "utf8_in_fragments": frame(TEXT, UTF8[:3], fin=False)
    + frame(PING, b"ping")
    + frame(CONTINUATION, UTF8[3:9], fin=False)
    + frame(PONG)
    + frame(CONTINUATION, UTF8[9:])
    + frame(BINARY, b"\xff\x00"),
    "many": b"".join(frame(TEXT, b"message %d" % number) for number in range(200)),
    "broadcasts": frame(TEXT, b"one") + (frame(TEXT, b"all") + frame(TEXT, b"two")) * 3,
    "bye": frame(TEXT, b"one") + frame(TEXT, b"bye") + frame(TEXT, b"late") + close_frame(4000),
    "cut": frame(BINARY, b"cut") + frame(TEXT, b"late"),
    "closed": frame(TEXT, b"one") + close_frame(1001, b"going") + frame(TEXT, b"late"),
    "closed_twice": close_frame(1000) + close_frame(1000),
    "empty_close": frame(CLOSE),
    "not_utf8": frame(TEXT, b"good") + frame(TEXT, b"\xff"),
    "too_long": frame(BINARY, bytes(6000)),
    "long": frame(TEXT, b"a" * 5000) + frame(BINARY, bytes(300)),
    "more_than_is_read_at_once": frame(TEXT, b"a" * 4000) * 4 + frame(BINARY, bytes(300)) * 4,
    "too_long_in_fragments": frame(TEXT, b"a" * 4000, fin=False) + frame(CONTINUATION, b"a" * 1001),
    "left_in_the_middle": frame(TEXT, b"one") + frame(TEXT, b"two")[:-1],
    "unmasked": frame(TEXT, b"good") + frame(TEXT, b"a", masked=False),
    "reserved": frame(TEXT, b"good") + frame(0x3) + frame(TEXT, b"late", rsv=2),
    "many_pings": frame(PING, b"p" * 100) * 20 + frame(TEXT, b"after"),
    "compressed": frame(TEXT, deflated(b"hello " * 30), rsv=4)
    + frame(BINARY, deflated(bytes(50))[:5], rsv=4, fin=False)
    + frame(PING, b"in between")
    + frame(CONTINUATION, deflated(bytes(50))[5:]),
    "compressed_final_block": frame(TEXT, deflated(b"one", zlib.Z_FINISH), rsv=4),
    "compressed_rubbish": frame(TEXT, b"\xff\xff\xff", rsv=4) + frame(TEXT, b"late"),
    "bomb": frame(BINARY, deflated(bytes(100_000)), rsv=4),
}
REQUESTS = {
    "plain": head(),
    "compressed": head(Sec_WebSocket_Extensions=OFFER),
    "all_headers": head(
        "/chat%20room?a=1&b=%C3%BC",
        Origin="http://localhost",
        Cookie='a=1; b="2"',
        Sec_WebSocket_Protocol="chat, superchat",
        X_Forwarded_For="203.0.113.9, 10.0.0.1",
    ),
    "absolute": head("http://localhost/room"),
    "rejected": head("/no"),
    "old": head(Sec_WebSocket_Version="8"),
    "post": head(start="POST / HTTP/1.1"),
    "http10": head(start="GET / HTTP/1.0", Host=None),
    "health": head("/health", Upgrade=None, Sec_WebSocket_Key=None),
    "chunked": head(Transfer_Encoding="chunked"),
    "folded": head(X="a\r\n b"),
    "forwarded": head(Forwarded='for="[2001:db8::1]:80";proto=http, for=10.0.0.2'),
    "as_large_as_allowed": head(X="a" * (500 - len(head(X="")))),
    "too_large_by_one": head(X="a" * (501 - len(head(X="")))),
    "too_large_by_four": head(X="a" * (504 - len(head(X="")))),
    "too_large": head(X="a" * 600),
    "answered_and_goes_on": b"\r\n\r\n" + bytes(1500),
    "rubbish": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
FORWARDED = {
    "one": b"x203.0.113.9",
    "chain": b"x198.51.100.1, 203.0.113.9,10.0.0.1\nx[2001:db8::5]:80, 2001:db8:1::9",
    "standard": b'ffor=203.0.113.9;proto=https;by=10.0.0.1, for="[2001:db8:1::9]:4711"',
    "both": b"x203.0.113.9\nffor=203.0.113.9",
    "open_quote": b'ffor="203.0.113.1, for=10.0.0.1\nffor="\\"',
    "unknown": b"ffor=unknown, for=_hidden;host=a\nf,;,for=",
    "mapped": b"x::ffff:203.0.113.9, fe80::1%eth0",
}
PAYLOADS = {
    "empty": b"\0",
    "text": deflated(b"hello " * 30),
    "two_blocks": deflated(bytes(40_000)),
    "as_long_as_allowed": deflated(bytes(200 * 1024)),
    "too_long_by_one": deflated(bytes(200 * 1024 + 1)),
    "final_block": deflated(b"one", zlib.Z_FINISH),
    "two_streams": deflated(b"one", zlib.Z_FINISH) + deflated(b"two"),
    "stored": zlib.compressobj(0, wbits=-15).compress(b"") + b"\0\x03\0\xfc\xffabc",
    "rubbish": b"\xff\xff",
    "many_streams": deflated(b"", zlib.Z_FINISH) * 101,
}
MESSAGES = {"text": UTF8 * 20, "zeros": bytes(1000), "short": b"a", "all_bytes": bytes(range(256))}


def options(config: int, sizes: bytes = b"\x01\x03\x80\x00") -> bytes:
    return bytes((config,)) + (sizes * 4)[:4]


def corpus() -> dict[str, dict[str, bytes]]:
    """Return name and content of the inputs of each target."""
    talk = CONVERSATIONS["text"] + CONVERSATIONS["utf8_in_fragments"]
    talks = {name: request + talk for name, request in REQUESTS.items()}
    return {
        "frames": {
            f"{name}_{kind}": start + stream
            for name, stream in CONVERSATIONS.items()
            for kind, start in {
                "bytewise": options(0x11, b"\x01"),
                "async": options(0x13),
                "slow": options(0x34, b"\x80"),
            }.items()
        },
        "handshake": {
            f"{name}_{kind}": start + stream
            for name, stream in talks.items()
            for kind, start in {
                "bytewise": options(0x05, b"\x01"),
                "proxied": options(0x47),
                "unix": options(0x2A),
            }.items()
        },
        "request": {name: stream.partition(b"\r\n\r\n")[0] for name, stream in REQUESTS.items()},
        "inflate": {name: options(200) + payload for name, payload in PAYLOADS.items()},
        "deflate": {name: b"\x06" + message for name, message in MESSAGES.items()},
        "forwarded": FORWARDED,
    }


if __name__ == "__main__":
    for target, inputs in corpus().items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            (CORPUS / target / name).write_bytes(content)
