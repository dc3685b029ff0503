"""Which web pages may connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.origins import OriginPolicy, is_loopback

LOOPBACK = ["localhost", "chat.localhost", "127.0.0.1", "127.1.2.3", "::1"]
ELSEWHERE = ["example.com", "localhost.example", "192.0.2.1", "::2", "0.0.0.0", "", "127.0.0.1.x"]


@pytest.mark.parametrize("name", LOOPBACK)
def test_loopback_names(name: str) -> None:
    """All names and addresses of this machine count as loopback."""
    assert is_loopback(name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_from_elsewhere(name: str) -> None:
    """A name that merely looks like loopback is not."""
    assert not is_loopback(name)


@pytest.mark.parametrize("allowed", [None, ["https://chat.example"], ["*"]])
@pytest.mark.parametrize("loopback_only", [True, False])
def test_programs_send_no_origin(allowed: list[str] | None, loopback_only: bool) -> None:
    """A client without Origin is no web page, and is let in."""
    assert OriginPolicy(allowed, loopback_only=loopback_only).allows(None, "chat.example")


@pytest.mark.parametrize("loopback_only", [True, False])
@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:9000", "localhost:9000", True),
        ("http://localhost:3000", "127.0.0.1:9000", True),
        ("https://127.0.0.1", "[::1]:9000", True),
        ("http://[::1]:9000", "localhost", True),
        ("http://localhost", "chat.example", False),
        ("https://evil.example", "localhost:9000", False),
        ("https://localhost.evil.example", "localhost:9000", False),
        ("null", "localhost:9000", False),
        ("file://", "localhost:9000", False),
        ("rubbish", "localhost:9000", False),
        ("http://[::1", "localhost:9000", False),
        ("http://localhost", None, False),
    ],
)
def test_pages_of_this_machine(
    origin: str, host: str | None, expected: bool, loopback_only: bool
) -> None:
    """All names of loopback are one host, which only its own pages may reach."""
    assert OriginPolicy(None, loopback_only=loopback_only).allows(origin, host) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("https://chat.example", "chat.example", True),
        ("http://chat.example:3000", "chat.example:9000", True),
        ("https://CHAT.example", "chat.EXAMPLE.", True),
        ("http://[2001:db8::1]", "[2001:db8::1]:9000", True),
        ("https://evil.example", "chat.example", False),
        ("https://chat.example.evil.example", "chat.example", False),
        ("https://sub.chat.example", "chat.example", False),
        ("https://chat.example@evil.example", "chat.example", False),
    ],
)
def test_a_page_reaches_its_own_host(origin: str, host: str, expected: bool) -> None:
    """By the rule the Origin's host name must be that of the Host; ports do not matter."""
    assert OriginPolicy(None, loopback_only=False).allows(origin, host) is expected


def test_dns_rebinding_finds_nothing() -> None:
    """A name that points to this machine for a moment is refused by a loopback server."""
    rule = OriginPolicy(None, loopback_only=True)
    assert not rule.allows("https://rebound.example", "rebound.example:9000")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://chat.example", True),
        ("https://chat.example:443", True),
        ("https://CHAT.example", True),
        ("http://intern.example:8080", True),
        ("null", True),
        ("http://chat.example", False),
        ("https://chat.example:8443", False),
        ("https://chat.example:99999", False),
        ("http://intern.example", False),
        ("http://localhost", False),
        ("rubbish", False),
        ("http://[::1", False),
    ],
)
@pytest.mark.parametrize("loopback_only", [True, False])
def test_a_list_replaces_the_rule(origin: str, expected: bool, loopback_only: bool) -> None:
    """Scheme, host and port must be those of an entry, whatever the Host is."""
    allowed = ["https://chat.example/", "http://intern.example:8080", "null"]
    policy = OriginPolicy(allowed, loopback_only=loopback_only)
    assert policy.allows(origin, "localhost:9000") is expected
    assert policy.allows(origin, None) is expected


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "rubbish"])
def test_a_star_opens_it(origin: str) -> None:
    """With `*`, alone or among others, any page may connect."""
    for allowed in (["*"], ["https://chat.example", "*"]):
        assert OriginPolicy(allowed, loopback_only=True).allows(origin, "localhost")


@pytest.mark.parametrize(
    "entry", ["chat.example", "https://", "https://chat.example/room", "https://chat.example?a=b"]
)
def test_an_entry_that_is_no_origin(entry: str) -> None:
    """The error names the entry and shows a right one."""
    with pytest.raises(ValueError, match="https://chat.example") as error:
        OriginPolicy([entry], loopback_only=False)
    assert repr(entry) in str(error.value)


@given(st.text(), st.text(), st.booleans())
def test_no_header_can_make_it_fail(origin: str, host: str, loopback_only: bool) -> None:
    """Whatever a client writes into the two headers, the answer is yes or no."""
    for allowed in (None, ["https://chat.example"]):
        for text in (origin, f"http://{origin}"):
            policy = OriginPolicy(allowed, loopback_only=loopback_only)
            assert policy.allows(text, host) in (True, False)
