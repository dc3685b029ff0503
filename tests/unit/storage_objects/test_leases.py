"""Leases, on a stand-in for the few commands of Redis that they use, with a clock of its own."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from filtered_websocket.storage_objects.leases import Leases


class FakeRedis:
    """Keep strings that expire, and sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.strings: dict[str, float] = {}
        self.sets: dict[str, set[bytes]] = {}

    async def set(self, key: str, value: Any, px: int, nx: bool = False, xx: bool = False) -> Any:
        exists = await self.exists(key)
        if (nx and exists) or (xx and not exists):
            return None
        self.strings[key] = self.now + px / 1000
        return True

    async def exists(self, key: str) -> bool:
        return self.strings.get(key, 0) > self.now

    async def delete(self, key: str) -> None:
        self.strings.pop(key, None)
        self.sets.pop(key, None)

    async def sadd(self, key: str, *values: Any) -> None:
        self.sets.setdefault(key, set()).update(_bytes(value) for value in values)

    async def srem(self, key: str, *values: Any) -> None:
        self.sets.get(key, set()).difference_update(_bytes(value) for value in values)

    async def smembers(self, key: str) -> set[bytes]:
        return set(self.sets.get(key, ()))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


def leases(redis: FakeRedis, server: UUID | None = None) -> Leases:
    return Leases(redis, "fws:", server or uuid4(), 15)


async def test_a_lease_lasts_while_it_is_renewed(redis: FakeRedis) -> None:
    """A server that beats is never dead."""
    a, b = uuid4(), uuid4()
    mine, other = leases(redis, a), leases(redis, b)
    await mine.sign_on()
    await other.sign_on()
    for _ in range(20):
        redis.now += mine.beat
        assert await mine.renew()
        assert await other.renew()
        assert await mine.dead() == []


async def test_a_server_that_stops_beating_is_dead_in_time(redis: FakeRedis) -> None:
    """Its lease has run out, and has been seen to, within the seconds that were asked for."""
    dead, alive = uuid4(), leases(redis)
    await leases(redis, dead).sign_on()
    await alive.sign_on()
    found: list[UUID] = []
    while not found:
        redis.now += alive.beat
        await alive.renew()
        found = await alive.dead()
    assert found == [dead]
    assert redis.now <= 15


async def test_one_server_removes_a_dead_one(redis: FakeRedis) -> None:
    """The others leave it to the first that has seen it, for a while."""
    await leases(redis).sign_on()
    redis.now += 15
    a, b = leases(redis), leases(redis)
    assert len(await a.dead()) == 1
    assert await b.dead() == []
    redis.now += 15
    assert len(await b.dead()) == 1


async def test_a_lease_that_had_run_out_is_taken_anew(redis: FakeRedis) -> None:
    """The server learns that it seemed dead, and is alive again."""
    server = uuid4()
    mine = leases(redis, server)
    await mine.sign_on()
    redis.now += 15
    await mine.sign_off(server)  # as another server does it
    assert not await mine.renew()
    assert await mine.renew()
    assert redis.sets["fws:servers"] == {server.hex.encode()}


async def test_memberships_are_listed_until_they_are_struck(redis: FakeRedis) -> None:
    """The list has key and id of each connection, also where there is nothing to add."""
    server, a, b = uuid4(), uuid4(), uuid4()
    mine = leases(redis, server)
    await mine.enlist([])
    await mine.enlist([("red", a), ("blue", b)])
    await mine.strike([("red", a)])
    assert await mine.listed(server) == {("blue", b)}
    await mine.sign_off(server)
    assert await mine.listed(server) == set()


async def test_rubbish_in_the_lists_is_passed_over(redis: FakeRedis) -> None:
    """What no server of ours has written harms none."""
    server = uuid4()
    await redis.sadd(f"fws:members:{server.hex}", b"rubbish", b"1", b'["a"]', b'["a",1,2]')
    await redis.sadd("fws:servers", b"rubbish", b"\xff")
    assert await leases(redis).listed(server) == set()
    assert await leases(redis).dead() == []
