"""How many connections there may be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.server_protocol.admission import Admission
from filtered_websocket.server_protocol.exception import ProtocolError


def refused(admission: Admission, address: str) -> ProtocolError:
    before = admission.count, dict(admission.count_by_address)
    with pytest.raises(ProtocolError) as error:
        admission.enter(address)
    assert (admission.count, admission.count_by_address) == before
    return error.value


def test_one_connection_too_many() -> None:
    """It gets a 503 that tells when to come again, until another one has left."""
    admission = Admission(2, None)
    admission.enter("192.0.2.1")
    admission.enter("192.0.2.2")
    for address in ("192.0.2.3", ""):
        error = refused(admission, address)
        assert error.status == 503
        assert int(error.headers["Retry-After"]) > 0
    admission.leave("192.0.2.1")
    admission.enter("192.0.2.3")


def test_one_too_many_from_an_address() -> None:
    """It gets a 429; other addresses do not mind."""
    admission = Admission(None, 1)
    admission.enter("192.0.2.1")
    assert refused(admission, "192.0.2.1").status == 429
    admission.enter("192.0.2.2")
    admission.leave("192.0.2.1")
    admission.enter("192.0.2.1")


def test_both_limits_at_once() -> None:
    """It is told of its own limit: that others leave would not help it."""
    admission = Admission(1, 1)
    admission.enter("192.0.2.1")
    assert refused(admission, "192.0.2.1").status == 429
    assert refused(admission, "192.0.2.2").status == 503


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("0.0.0.1", "::1", False),
        ("192.0.2.1", "c000:201::", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, are_one: bool) -> None:
    """IPv4 by address, however it is written, and IPv6 by /64, which one client owns all of."""
    admission = Admission(None, 1)
    admission.enter(one)
    if are_one:
        assert refused(admission, other).status == 429
        admission.leave(other)
        assert admission.count_by_address == {}
    else:
        admission.enter(other)


def test_a_unix_socket_has_no_address() -> None:
    """All its clients would share one limit; they count in the total only."""
    admission = Admission(None, 1)
    admission.enter("")
    admission.enter("")
    assert (admission.count, admission.count_by_address) == (2, {})
    admission.leave("")
    assert admission.count == 1


def test_without_limits_no_address_is_kept() -> None:
    """Only the total is counted, which costs nothing."""
    admission = Admission(None, None)
    for _ in range(3):
        admission.enter("192.0.2.1")
    assert (admission.count, admission.count_by_address) == (3, {})


ADDRESSES = ["", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"]  # all count apart
limits = st.one_of(st.none(), st.integers(1, 4))


@given(limits, limits, st.lists(st.tuples(st.booleans(), st.sampled_from(ADDRESSES))))
def test_coming_and_going_in_any_order(
    connections: int | None, per_address: int | None, steps: list[tuple[bool, str]]
) -> None:
    """The counts are right after each step, and nothing is kept when all have left."""
    admission = Admission(connections, per_address)
    inside: Counter[str] = Counter()
    for comes, address in steps:
        if comes:
            of_address = per_address is not None and address and inside[address] >= per_address
            is_full = connections is not None and inside.total() >= connections
            if of_address or is_full:
                assert refused(admission, address).status == (429 if of_address else 503)
            else:
                admission.enter(address)
                inside[address] += 1
        elif inside[address]:
            admission.leave(address)
            inside[address] -= 1
        assert admission.count == inside.total()
        expected = (inside - Counter({"": inside[""]})) if per_address is not None else Counter()
        assert sorted(admission.count_by_address.values()) == sorted(expected.values())
    for address in inside.elements():
        admission.leave(address)
    assert (admission.count, admission.count_by_address) == (0, {})
