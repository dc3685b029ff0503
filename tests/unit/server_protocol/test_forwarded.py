"""Who the client is, behind proxies that the server trusts."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from filtered_websocket.server_protocol.exception import ProtocolError
from filtered_websocket.server_protocol.forwarded import TrustedProxies

PROXY = "10.0.0.1"
TRUSTED = ["10.0.0.0/8", "2001:db8:5::/48", "unix"]
proxies = TrustedProxies(TRUSTED)


def client(*headers: tuple[str, str], peer: str = PROXY) -> str:
    return proxies.client(peer, CIMultiDictProxy(CIMultiDict(headers)))


def by_x(*values: str, peer: str = PROXY) -> str:
    return client(*(("x-forwarded-for", value) for value in values), peer=peer)


def by_forwarded(*values: str, peer: str = PROXY) -> str:
    return client(*(("forwarded", value) for value in values), peer=peer)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("somewhere", "somewhere"),
    ],
)
def test_an_untrusted_peer_is_the_client(peer: str, expected: str) -> None:
    """Its headers are not even read: neither what they say nor their size matters."""
    assert by_x("198.51.100.1" * 1000, peer=peer) == expected
    assert client(("Forwarded", "for=1.2.3.4"), ("X-Forwarded-For", "5.6.7.8"), peer=peer) == (
        expected
    )


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:5::1%eth0", ""])
def test_a_trusted_peer_speaks_for_another(peer: str) -> None:
    """It is known in each spelling that a socket has, and as a Unix socket."""
    assert by_x("192.0.2.1", peer=peer) == "192.0.2.1"
    assert by_forwarded("for=192.0.2.1", peer=peer) == "192.0.2.1"


@pytest.mark.parametrize("peer", ["10.0.0.1", ""])
def test_a_trusted_peer_without_headers(peer: str) -> None:
    """It speaks for itself."""
    assert client(peer=peer) == peer


def test_a_unix_socket_is_trusted_only_by_its_word() -> None:
    """Networks, however wide, do not contain it, and it does not make addresses trusted."""
    headers = CIMultiDictProxy(CIMultiDict({"X-Forwarded-For": "192.0.2.1"}))
    assert TrustedProxies(["0.0.0.0/0", "::/0"]).client("", headers) == ""
    assert TrustedProxies(["unix"]).client("10.0.0.1", headers) == "10.0.0.1"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1, 10.9.9.9"], "192.0.2.1"),
        (["6.6.6.6,192.0.2.1\t,10.9.9.9 "], "192.0.2.1"),
        (["192.0.2.1", "10.9.9.9"], "192.0.2.1"),
        (["10.9.9.9", "192.0.2.1"], "192.0.2.1"),
        (["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["::ffff:192.0.2.1"], "192.0.2.1"),
        (["fe80::1%eth0"], "fe80::1"),
        (["192.0.2.1, ::ffff:10.9.9.9"], "192.0.2.1"),
    ],
)
def test_x_forwarded_for(values: list[str], expected: str) -> None:
    """From the right, the first hop that is no trusted proxy; the leftmost when all are."""
    assert by_x(*values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["for=192.0.2.1"], "192.0.2.1"),
        (['For="192.0.2.1:4711"'], "192.0.2.1"),
        (['for="[2001:db8::1]"'], "2001:db8::1"),
        (['for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (['for="[2001:db8::1]:_port"'], "2001:db8::1"),
        ([r'for="\192.0.2.1"'], "192.0.2.1"),
        (["for=192.0.2.1;proto=https;by=203.0.113.43"], "192.0.2.1"),
        (["proto=https; FOR=192.0.2.1 ;"], "192.0.2.1"),
        (["for=6.6.6.6, for=192.0.2.1, for=10.9.9.9"], "192.0.2.1"),
        (["for=6.6.6.6", 'for="192.0.2.1:80",for=10.9.9.9'], "192.0.2.1"),
        (['host="a, for=6.6.6.6;for=6.6.6.6";for=192.0.2.1'], "192.0.2.1"),
        (['for=192.0.2.1;host="a, for=6.6.6.6;for=6.6.6.6"'], "192.0.2.1"),
        ([r'for=192.0.2.1;host="a\", for=6.6.6.6"'], "192.0.2.1"),
        ([r'for=192.0.2.1;host="a, for=6.6.6.6\\"'], "192.0.2.1"),
        (["for=10.3.3.3, for=10.2.2.2"], "10.3.3.3"),
    ],
)
def test_forwarded(values: list[str], expected: str) -> None:
    """The same for the elements of RFC 7239; what is quoted separates nothing."""
    assert by_forwarded(*values) == expected


@pytest.mark.parametrize(
    "hop",
    [
        "unknown",
        "_hidden",
        "",
        " ",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1:",
        "192.0.2.1:port",
        "192.0.2.1:123456",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "[]",
        "example.com",
        "unix:",
        '"192.0.2.1',
        "١٩٢.0.2.1",
    ],
)
def test_an_unknown_hop_ends_the_walk(hop: str) -> None:
    """What is left of it may be made up; the last good address counts, the peer's at least."""
    assert by_x(f"6.6.6.6, {hop}") == PROXY
    assert by_x(f"6.6.6.6, {hop}, 10.9.9.9") == "10.9.9.9"
    assert by_x("6.6.6.6", hop, "192.0.2.1") == "192.0.2.1"
    assert by_forwarded(f"for=6.6.6.6, for={hop}, for=10.9.9.9") == "10.9.9.9"


@pytest.mark.parametrize(
    "element",
    ["", "proto=https", "for", "for=192.0.2.1;for=192.0.2.2", "for = 192.0.2.1", "x for=192.0.2.1"],
)
def test_an_element_that_does_not_name_one_node(element: str) -> None:
    """It is an unknown hop."""
    assert by_forwarded(f"for=6.6.6.6, {element}, for=10.9.9.9") == "10.9.9.9"


@pytest.mark.parametrize("prefix", ['for="', 'for="x\\', '"', '\\"', 'for=6.6.6.6;host="'])
@pytest.mark.parametrize("added", ["for=192.0.2.1", 'for="192.0.2.1:80";host="a"'])
def test_a_quote_left_open_hides_nothing(prefix: str, added: str) -> None:
    """What a client sends before it does not change how a proxy's element is read."""
    assert by_forwarded(f"{prefix}, {added}") == "192.0.2.1"
    assert by_forwarded(prefix, added) == "192.0.2.1"


def test_both_headers_that_agree() -> None:
    """A proxy may set both, in different spellings."""
    both = ("Forwarded", 'for="[::ffff:192.0.2.1]:80"'), ("X-Forwarded-For", "6.6.6.6, 192.0.2.1")
    assert client(*both) == "192.0.2.1"


@pytest.mark.parametrize(
    ("x_forwarded_for", "forwarded"),
    [
        ("192.0.2.1", "for=6.6.6.6"),
        ("192.0.2.1", "for=unknown"),
        ("192.0.2.1", ""),
        ("unknown", "for=192.0.2.1"),
    ],
)
def test_both_headers_that_disagree(x_forwarded_for: str, forwarded: str) -> None:
    """One of them is the client's own: the request is refused with 400."""
    with pytest.raises(ProtocolError, match="Forwarded") as error:
        client(("X-Forwarded-For", x_forwarded_for), ("Forwarded", forwarded))
    assert error.value.status == 400


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_header_that_is_too_large(name: str) -> None:
    """8 KiB of it are read, in all its lines together; more is answered with 431."""
    half = "a" * 4095
    assert client((name, half), (name, half + "a")) == PROXY
    with pytest.raises(ProtocolError, match=name) as error:
        client((name, half + "a"), (name, half + "a"))
    assert error.value.status == 431


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "proxy.example", "", "Unix", "10.0.0.1:80"])
def test_an_entry_that_is_no_proxy(entry: str) -> None:
    """The error names it."""
    with pytest.raises(ValueError) as error:
        TrustedProxies(["unix", entry])
    assert repr(entry) in str(error.value)


parts = st.sampled_from(
    ["for=", "10.0.0.1", "192.0.2.1", "[2001:db8:5::1]", ":80", '"', "\\", ",", ";", " ", "%", "_"]
)
values = st.one_of(st.text(), st.lists(parts).map("".join))


@given(
    st.lists(st.tuples(st.sampled_from(["Forwarded", "X-Forwarded-For"]), values)),
    st.sampled_from([PROXY, ""]),
)
@example([("Forwarded", "\\" * 8192)], PROXY)
@example([("Forwarded", '"' * 8192)], PROXY)
@example([("X-Forwarded-For", "10.0.0.1," * 910)], PROXY)
def test_any_headers_give_an_address_or_an_error(headers: list[tuple[str, str]], peer: str) -> None:
    """Nothing that a client can send makes it fail, and what it gives is one address."""
    try:
        address = client(*headers, peer=peer)
    except ProtocolError:
        return
    assert address == peer or str(ip_address(address)) == address


@given(values)
def test_what_a_client_sends_never_decides(value: str) -> None:
    """Whatever stands before it, the address that the proxy has added is the client's."""
    added = "192.0.2.1"
    assert by_x(f"{value},{added}") == added
    assert by_forwarded(f'{value},for="{added}:80"') == added
