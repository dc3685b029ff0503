"""permessage-deflate: bytes in, bytes out, against the client of `websockets`."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import zlib
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from filtered_websocket.frames import deflate_frame, encode_frame
from filtered_websocket.server_protocol.deflate import BLOCK, MAX_STREAMS, Inflater, negotiate
from filtered_websocket.server_protocol.exception import ProtocolError, WireError
from tests.unit.test_frames import parse

LIMIT = 1024 * 1024
NOISE = Random(0).randbytes(BLOCK)
NO_TAKEOVER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

settings_of_clients = st.fixed_dictionaries(
    {
        "server_no_context_takeover": st.booleans(),
        "client_no_context_takeover": st.booleans(),
        "server_max_window_bits": st.none() | st.integers(9, 15),
        "client_max_window_bits": st.none() | st.just(True) | st.integers(9, 15),
    }
)
# Repeated, so that some of it compresses.
payloads = st.builds(bytes.__mul__, st.binary(max_size=200), st.sampled_from([0, 1, 2, 30, 600]))
cuts = st.lists(st.floats(0, 1), max_size=5)


def cut(data: bytes, at: list[float]) -> list[bytes]:
    """Return `data` in parts, cut at these fractions of its length."""
    places = [0, *sorted(int(fraction * len(data)) for fraction in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def compress(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(flush)).removesuffix(b"\x00\x00\xff\xff")


def inflate(*payloads: bytes, limit: int = LIMIT) -> bytearray:
    """Return the message that these payloads hold; the last one is the final frame."""
    message = bytearray()
    inflater = Inflater(message, limit)
    for payload in payloads[:-1]:
        inflater.inflate(payload, fin=False)
    inflater.inflate(payloads[-1], fin=True)
    assert inflater._decoder is None, "zlib state outlives the message"
    return message


def closing_code(*payloads: bytes, limit: int = LIMIT) -> int:
    with pytest.raises(WireError) as caught:
        inflate(*payloads, limit=limit)
    return caught.value.code


def connect(settings: dict[str, object]) -> tuple[PerMessageDeflate, int]:
    """Return a client that negotiated with its settings, and our window bits."""
    factory = ClientPerMessageDeflateFactory(**settings)  # type: ignore[arg-type]
    accepted = negotiate([build_extension([(factory.name, factory.get_request_params())])])
    assert accepted is not None
    header, window_bits = accepted
    [(_, parameters)] = parse_extension(header)
    return factory.process_response_params(parameters, []), window_bits


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([], None),
        (["x-webkit-deflate-frame, other; a=b"], None),
        (["permessage-deflate"], (NO_TAKEOVER, 15)),
        (["permessage-deflate; client_max_window_bits"], (NO_TAKEOVER, 15)),
        ([NO_TAKEOVER], (NO_TAKEOVER, 15)),
        (["other", "", "permessage-deflate"], (NO_TAKEOVER, 15)),
        (
            ["permessage-deflate; server_max_window_bits=9"],
            (f"{NO_TAKEOVER}; server_max_window_bits=9", 9),
        ),
        (
            ['permessage-deflate; server_max_window_bits="12"; client_max_window_bits=8'],
            (f"{NO_TAKEOVER}; server_max_window_bits=12; client_max_window_bits=8", 9),
        ),
        (["permessage-deflate; server_max_window_bits=8"], None),
        (["permessage-deflate; server_max_window_bits=8, permessage-deflate"], (NO_TAKEOVER, 15)),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; server_max_window_bits=16"], None),
        (["permessage-deflate; client_max_window_bits=08"], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; mode=fast"], None),
        (["permessage-deflate; client_max_window_bits; client_max_window_bits=9"], None),
        (["permessage-deflate; x", "permessage-deflate"], (NO_TAKEOVER, 15)),
        (
            ["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
            (f"{NO_TAKEOVER}; server_max_window_bits=10", 9),
        ),
    ],
)
def test_the_first_offer_that_can_be_met_is_accepted(
    offers: list[str], expected: tuple[str, int] | None
) -> None:
    """An offer with a parameter that is unknown, wrong or twice there is passed over, alone."""
    assert negotiate(offers) == expected


@pytest.mark.parametrize(
    "value",
    ["", ",", "permessage-deflate;", "permessage-deflate; =1", "a b", 'a; b="c d"', "a; b=", "é"],
)
def test_a_malformed_header_is_a_bad_request(value: str) -> None:
    """What is no list of extensions fails the handshake, not only the compression."""
    with pytest.raises(ProtocolError, match="Sec-WebSocket-Extensions") as caught:
        negotiate([value])
    assert caught.value.status == 400


@given(settings_of_clients, st.lists(payloads, min_size=1, max_size=4), cuts)
@example({}, [NOISE[:20_000] * 2 + NOISE[::-1]], [0.1])
@example({"client_max_window_bits": 9}, [bytes(2 * BLOCK), b"", b"\0" * 70000], [0.5])
def test_what_a_client_compresses_is_read(
    settings: dict[str, object], fragments: list[bytes], at: list[float]
) -> None:
    """Messages of a client with any settings arrive, in whatever fragments they come."""
    client, _ = connect(settings)
    for _ in range(2):  # the second message would use the context of the first
        opcodes = [Opcode.BINARY] + [Opcode.CONT] * (len(fragments) - 1)
        frames = [
            client.encode(Frame(opcode, data, fin=number == len(fragments)))
            for number, (opcode, data) in enumerate(zip(opcodes, fragments, strict=True), 1)
        ]
        payload = b"".join(frame.data for frame in frames)
        assert inflate(*cut(payload, at)) == b"".join(fragments)


@given(settings_of_clients, payloads)
@example({"server_max_window_bits": 9}, b"abc" * 100_000)
def test_a_client_reads_what_is_compressed(settings: dict[str, object], data: bytes) -> None:
    """A client with any settings reads our messages, whether they came out compressed or not."""
    client, window_bits = connect(settings)
    for _ in range(2):
        frame = deflate_frame(encode_frame(data, is_binary=True), window_bits)
        opcode, payload = parse(bytes((frame[0] & ~0x40, *frame[1:])))
        decoded = client.decode(Frame(Opcode(opcode), payload, rsv1=bool(frame[0] & 0x40)))
        assert decoded.data == data
        assert not frame[0] & 0x40 or inflate(payload) == data, "the client bears with more"


@given(st.lists(st.tuples(payloads, st.booleans()), max_size=5), cuts)
def test_final_blocks_may_stand_anywhere(parts: list[tuple[bytes, bool]], at: list[float]) -> None:
    """A message goes on after a block with BFINAL (RFC 7692 section 7.2.1)."""
    deflate, stream = zlib.compressobj(wbits=-12), b""
    for data, is_final in parts:
        stream += deflate.compress(data)
        stream += deflate.flush(zlib.Z_FINISH if is_final else zlib.Z_SYNC_FLUSH)
        if is_final:
            deflate = zlib.compressobj(wbits=-12)
    stream += deflate.flush(zlib.Z_SYNC_FLUSH) or b"\x00\x00\x00\xff\xff"
    assert inflate(*cut(stream[:-4], at)) == b"".join(data for data, _ in parts)


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        (["f248cdc9c90700"], b"Hello"),
        (["f248cd", "c9c90700"], b"Hello"),
        (["000500faff48656c6c6f00"], b"Hello"),
        (["f348cdc9c9070000"], b"Hello"),
        (["f348cdc9c90700"], b"Hello"),
        (["f348cdc9c90700", ""], b"Hello"),
        (["f248050000" + "00ffff" + "cac9c90700"], b"Hello"),
        (["00"], b""),
        (["0300" * 2], b""),
        ([""], b""),
    ],
    ids=[
        "7.2.3.1, one block",
        "7.2.3.1, fragments",
        "7.2.3.3, stored",
        "7.2.3.4, final block",
        "final block without the padding after it",
        "final block, then an empty frame",
        "7.2.3.5, two blocks",
        "7.2.3.6, empty",
        "empty final blocks",
        "no bytes",
    ],
)
def test_the_examples_of_the_rfc(payloads: list[str], expected: bytes) -> None:
    """The forms that RFC 7692 shows are read, and those that cannot be mistaken."""
    assert inflate(*map(bytes.fromhex, payloads)) == expected


@pytest.mark.parametrize("size", [0, 1, 258, 259, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK])
@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH], ids=["sync", "final"])
@pytest.mark.parametrize("at", [[], [0.1, 0.5], [0.99]], ids=str)
@pytest.mark.parametrize("alphabet", [b"\0", bytes(range(256))], ids=["zeros", "bytes"])
def test_the_limit_is_exact(size: int, flush: int, at: list[float], alphabet: bytes) -> None:
    """A message of the limit's size arrives; one more byte closes with 1009."""
    data = (alphabet * (size + 1))[: size + 1]
    assert inflate(*cut(compress(data[:size], flush), at), limit=size) == data[:size]
    assert closing_code(*cut(compress(data, flush), at), limit=size) == 1009


@pytest.mark.parametrize("at", [[], [0.001, 0.002]], ids=["one frame", "fragments"])
def test_a_bomb_costs_no_more_than_the_limit(at: list[float]) -> None:
    """Inflating stops at the limit, whatever more a message holds."""
    deflate = zlib.compressobj(wbits=-15)
    frames = cut(b"".join(deflate.compress(bytes(LIMIT)) for _ in range(30)), at)
    tracemalloc.start()
    assert closing_code(*frames) == 1009
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A bytearray reserves an eighth more than it holds.
    assert peak < LIMIT * 9 / 8 + 4 * BLOCK


def test_endless_final_blocks_are_refused() -> None:
    """A frame of many streams, each of which would cost a new zlib state, closes with 1008."""
    empty = b"\x03\x00"
    assert inflate(empty * MAX_STREAMS, empty * 2, empty * MAX_STREAMS) == b""
    assert closing_code(empty * (MAX_STREAMS + 1)) == 1008
    assert closing_code(b"", empty * LIMIT) == 1008


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(0, 1000))
def test_rubbish_is_told_as_such(frames: list[bytes], limit: int) -> None:
    """Whatever bytes come, there is a message within the limit or a close code."""
    try:
        assert len(inflate(*frames, limit=limit)) <= limit
    except WireError as error:
        assert error.code in (1002, 1008, 1009)


@pytest.mark.parametrize(
    "payload",
    [
        "ff" * 10,
        "000500ffff48656c6c6f00",
        "f348cdc9c90700" + "ff",
        *("f248cdc9c90700"[:end] for end in range(2, 14, 2)),
    ],
    ids=lambda payload: payload,
)
def test_what_is_no_whole_deflate_closes_with_1002(payload: str) -> None:
    """Bytes that cannot be inflated, and a message that breaks off, are a protocol error."""
    assert closing_code(bytes.fromhex(payload)) == 1002


def test_who_does_not_compress_does_not_load_the_library() -> None:
    """The module itself, and a client that offers nothing, cost no import of `websockets`."""
    program = (
        "import sys; from filtered_websocket.server_protocol.deflate import negotiate;"
        "negotiate([]); sys.exit('websockets' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
