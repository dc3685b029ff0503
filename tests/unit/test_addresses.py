"""IP addresses and networks, as operators and headers write them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.addresses import parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1"),
    ],
)
def test_one_spelling_of_each_address(text: str, expected: str) -> None:
    """Whatever the socket or a header writes, the same host gives the same address."""
    address = parse_address(text)
    assert str(address) == expected
    assert address == parse_address(expected)


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "01.2.3.4", "1.2.3.4/32", "1::2::3"])
def test_no_address(text: str) -> None:
    """What is no address is an error."""
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::/0", "::/0"),
    ],
)
def test_networks(text: str, expected: str) -> None:
    """An address is a network of one; IPv4-mapped ones are IPv4, as peers are."""
    assert parse_network(text) == ip_network(expected)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("10.1.2.3/8", "10.0.0.0/8 for all of it, or 10.1.2.3 for the one"),
        ("2001:db8::1/32", "2001:db8::/32 for all of it, or 2001:db8::1 for the one"),
        ("10/8", "10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/8"),
        ("localhost", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("*", "10.0.0.0/8"),
    ],
)
def test_no_network(text: str, advice: str) -> None:
    """The error names the text and what was probably meant."""
    with pytest.raises(ValueError) as error:
        parse_network(text)
    assert repr(text) in str(error.value)
    assert advice in str(error.value)


@given(st.one_of(st.text(), st.ip_addresses().map(str), st.from_regex(r"[0-9a-f.:/%]*")))
def test_any_text_is_one_or_an_error(text: str) -> None:
    """Nothing but ValueError comes out, and what is parsed is parsed the same again."""
    for parse in (parse_address, parse_network):
        try:
            parsed = parse(text)
        except ValueError:
            continue
        assert parse(str(parsed)) == parsed
