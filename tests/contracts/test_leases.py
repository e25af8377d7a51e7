"""Leases: one owner at a time, fencing numbers that only rise, work that follows the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError
from common.runtime.database import Database
from common.runtime.leases import Lease, Leases
from common.runtime.system import SystemClock, SystemIds
from contracts.conftest import NewDatabase
from contracts.recorded_bus import AT

TTL_S = 10.0
OWNERS = ("a", "b", "c")
IDS = SequenceIds()
# what an owner does (or how many seconds pass), and who
STEPS = st.lists(
    st.tuples(st.sampled_from(["acquire", "renew", "release", "check", "4", "11"]), st.sampled_from(OWNERS)),
    max_size=25,
)


async def holds(database: Database, leases: Leases, lease: Lease) -> bool:
    try:
        async with database.write() as session:
            await leases.check(session, lease)
    except SuiteError as error:
        if error.code != "lease.lost":
            raise
        return False
    return True


class TestLeases:
    @given(steps=STEPS)
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_no_two_owners_ever_have_the_same_fencing_number(
        self, database: Database, steps: Sequence[tuple[str, str]]
    ) -> None:
        clock = FixedClock(AT)
        leases = Leases(database, clock, SequenceIds())
        name = IDS.new("key")
        held: dict[str, Lease] = {}
        owner_of: dict[int, str] = {}
        newest = 0
        for step, owner in steps:
            if step.isdigit():
                clock.advance(float(step))
            elif step == "acquire":
                lease = await leases.acquire(name, owner=owner, ttl_s=TTL_S)
                if lease is not None:
                    assert owner_of.setdefault(lease.fencing, owner) == owner
                    assert lease.fencing >= newest
                    newest, held[owner] = lease.fencing, lease
            elif owner in held:
                await self._use(database, leases, held, owner, step, newest)
        working = [owner for owner, lease in held.items() if await holds(database, leases, lease)]
        assert len(working) <= 1

    async def _use(
        self, database: Database, leases: Leases, held: dict[str, Lease], owner: str, step: str, newest: int
    ) -> None:
        lease = held[owner]
        if step == "release":
            await leases.release(held.pop(owner))
            assert not await holds(database, leases, lease)
        elif step == "renew":
            assert await leases.renew(lease) == (lease.fencing == newest)
        else:
            assert await holds(database, leases, lease) == (lease.fencing == newest)

    async def test_of_many_at_once_one_gets_it(self, new_database: NewDatabase) -> None:
        replicas = [new_database() for _ in range(3)]
        for replica in replicas:
            await replica.open()
        clock = FixedClock(AT)
        tries = [
            Leases(replica, clock, SequenceIds()).acquire("one", owner=f"{number}-{turn}", ttl_s=TTL_S)
            for number, replica in enumerate(replicas)
            for turn in range(5)
        ]
        got = [lease for lease in await asyncio.gather(*tries) if lease is not None]
        assert [lease.fencing for lease in got] == [1]
        for replica in replicas:
            await replica.close()

    async def test_a_lease_runs_out_and_the_former_holder_is_refused(self, database: Database) -> None:
        clock = FixedClock(AT)
        leases = Leases(database, clock, SequenceIds())
        first = await leases.acquire("work", owner="a", ttl_s=TTL_S)
        assert first is not None
        assert await leases.acquire("work", owner="b", ttl_s=TTL_S) is None
        clock.advance(TTL_S + 1)
        second = await leases.acquire("work", owner="b", ttl_s=TTL_S)
        assert second is not None
        assert second.fencing == first.fencing + 1
        assert not await holds(database, leases, first)
        assert not await leases.renew(first)
        assert first.lost.is_set()
        await leases.release(first)
        assert await holds(database, leases, second)

    async def test_nobody_takes_over_between_check_and_commit(self, new_database: NewDatabase) -> None:
        database, other = new_database(), new_database()
        await database.open()
        await other.open()
        clock = FixedClock(AT)
        leases = Leases(database, clock, SequenceIds())
        lease = await leases.acquire("work", owner="a", ttl_s=TTL_S)
        assert lease is not None
        clock.advance(TTL_S + 1)
        async with database.write() as session:
            await leases.check(session, lease)
            takeover = asyncio.create_task(Leases(other, clock, SequenceIds()).acquire("work", owner="b", ttl_s=TTL_S))
            done, _ = await asyncio.wait({takeover}, timeout=0.2)
            assert not done
        assert (await takeover) is not None
        await database.close()
        await other.close()

    async def test_hold_renews_until_the_end_and_gives_back(self, database: Database) -> None:
        leases = Leases(database, SystemClock(), SystemIds())
        async with leases.hold("work", ttl_s=0.3) as lease:
            assert lease is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(0.9):
                    await lease.lost.wait()
            assert not lease.lost.is_set()
            async with leases.hold("work", ttl_s=0.3) as other:
                assert other is None
        async with leases.hold("work", ttl_s=0.3) as again:
            assert again is not None
            assert again.fencing == lease.fencing + 1

    async def test_hold_tells_when_it_was_taken_over_or_can_not_be_renewed(self, new_database: NewDatabase) -> None:
        database, other = new_database(), new_database()
        await database.open()
        await other.open()
        leases = Leases(database, SystemClock(), SystemIds())
        late = FixedClock(SystemClock().now())
        late.advance(3600)
        async with leases.hold("work", ttl_s=0.3) as lease:
            assert lease is not None
            assert await Leases(other, late, SystemIds()).acquire("work", owner="b", ttl_s=TTL_S) is not None
            async with asyncio.timeout(5):
                await lease.lost.wait()
        async with leases.hold("other", ttl_s=0.3) as lease:
            assert lease is not None
            await database.close()
            async with asyncio.timeout(5):
                await lease.lost.wait()
        await other.close()

    async def test_work_runs_on_one_replica_and_moves_on(self, new_database: NewDatabase) -> None:
        replicas = [new_database() for _ in range(2)]
        for replica in replicas:
            await replica.open()
        running: set[int] = set()
        most, begun = 0, [asyncio.Event(), asyncio.Event()]

        async def work(number: int) -> None:
            nonlocal most
            running.add(number)
            most = max(most, len(running))
            begun[number].set()
            try:
                await asyncio.Event().wait()
            finally:
                running.discard(number)

        def start(number: int) -> asyncio.Task[None]:
            leases = Leases(replicas[number], SystemClock(), SystemIds())
            return asyncio.create_task(leases.run_while_held("work", lambda: work(number), ttl_s=0.5))

        async with asyncio.timeout(10):
            first = start(0)
            await begun[0].wait()
            second = start(1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await begun[1].wait()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert most == 1
        for replica in replicas:
            await replica.close()

    async def test_work_is_begun_again_after_a_transient_failure_only(self, database: Database) -> None:
        leases = Leases(database, SystemClock(), SystemIds())
        failures = [SuiteError("peer.unavailable"), OSError("gone"), None]

        async def work() -> None:
            failure = failures.pop(0)
            if failure is not None:
                raise failure

        async with asyncio.timeout(10):
            await leases.run_while_held("work", work, ttl_s=0.1)
        assert failures == []

        async def wrong() -> None:
            raise ValueError("ours")

        with pytest.raises(ValueError, match="ours"):
            await leases.run_while_held("work", wrong, ttl_s=0.1)
