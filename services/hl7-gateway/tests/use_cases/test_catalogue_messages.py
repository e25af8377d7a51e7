"""Cataloguing, without databases."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from common.models.errors import SuiteError
from common.models.identifiers import type_id, uuid7
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemClock
from common.testing import OTHER_TENANT, TENANT
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.core.message import MessageState, NewMessage, TakenMessage, milliseconds_of
from hl7_gateway.core.senders import SenderTable, sender_table
from hl7_gateway.ports import Answered
from hl7_gateway.use_cases.catalogue_messages import NOT_CATALOGUED, Cataloguer

WAIT_S = 5.0


class MemoryCatalogue:
    """`Catalogue` in a dictionary; `away` as when the database is gone."""

    def __init__(self) -> None:
        self.messages: dict[str, NewMessage] = {}
        self.batches: list[int] = []
        self.away = False
        self.added = asyncio.Event()

    async def add(self, messages: Sequence[NewMessage]) -> None:
        if self.away:
            raise SuiteError("database.unavailable")
        self.batches.append(len(messages))
        self.added.set()
        for message in messages:
            self.messages.setdefault(message.id, message)


class SomeKeys(StaticKeyRing):
    """Keys of one tenant are gone, or away."""

    def __init__(self, tenant: str, code: str) -> None:
        self.lost, self.code = tenant, code

    async def tenant(self, tenant: str) -> Any:
        if tenant == self.lost:
            raise SuiteError(self.code)
        return await super().tenant(tenant)


class Journal:
    """`Journal` that keeps what it was told."""

    def __init__(self) -> None:
        self.answers: dict[str, Answered] = {}
        self.exchanges: list[Any] = []

    def begin(self, header: Any, at: Any) -> Any:
        return SimpleNamespace(traceparent=f"trace of {header.control_id}")

    def end(self, _: Any, exchange: Any) -> None:
        self.exchanges.append(exchange)

    def answered(self, message_id: str, how: Answered) -> None:
        self.answers[message_id] = how

    def answer_of(self, message_id: str) -> Answered | None:
        return self.answers.pop(message_id, None)


class Senders:
    """`Senders` with a table set by hand."""

    def __init__(self, table: SenderTable) -> None:
        self.now, self.known = table, True

    def table(self) -> SenderTable:
        return self.now

    def settled(self) -> bool:
        return self.known


class Bench:
    """A cataloguer and what stands around it."""

    def __init__(self, table: SenderTable, keys: Any = None, *, loaded: bool = False) -> None:
        self.intake, self.catalogue, self.journal, self.senders = (
            MemoryIntake(),
            MemoryCatalogue(),
            Journal(),
            Senders(table),
        )
        self.loaded = loaded
        self.cataloguer = Cataloguer(
            self.intake,
            self.catalogue,
            keys or StaticKeyRing(),
            self.senders,
            self.journal,
            SystemClock(),
            lambda: self.loaded,
        )

    async def store(self, number: int, body: bytes, *, tenant: str = TENANT, rejection: str = "") -> str:
        message_id = type_id("msg", uuid7(1_700_000_000_000 + number, number))
        keys = await StaticKeyRing().tenant(tenant)
        sealed = keys.seal(body, record=message_id, field="body")
        now = milliseconds_of(SystemClock().now())
        row = TakenMessage(message_id, tenant, "int", "in", "peer", now, rejection, sealed, number.to_bytes(16, "big"))
        await self.intake.save([row])
        self.cataloguer.stored()
        return message_id

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.cataloguer.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def table(integration: Any) -> SenderTable:
    return sender_table([integration()])


Message = Callable[..., bytes]


async def test_what_a_message_says_is_kept_and_its_exchange_told(table: SenderTable, message: Message) -> None:
    bench = Bench(table)
    first = await bench.store(1, message("c-1"))
    bench.journal.answered(first, Answered(3.5, ("AA",), 99))
    rejected = await bench.store(2, message("c-2", kind="BAR^P01"), rejection="hl7.type-unsupported")
    async with bench.running():
        assert await bench.cataloguer.caught_up(WAIT_S)
    kept, refused = bench.catalogue.messages[first], bench.catalogue.messages[rejected]
    assert (kept.header.control_id, kept.header.operation, kept.state) == ("c-1", "ADT^A08", MessageState.RECEIVED)
    assert (kept.acknowledgment_code, kept.size_bytes) == ("AA", len(message("c-1")))
    assert kept.traceparent == "trace of c-1"
    assert kept.patient_key is not None
    assert (refused.state, refused.findings) == (MessageState.REJECTED, ("hl7.type-unsupported",))
    (exchange,) = bench.journal.exchanges  # the other one was answered by nobody we know
    assert (exchange.duration_ms, exchange.codes, exchange.response_bytes) == (3.5, ("AA",), 99)
    assert await bench.intake.waiting(10) == []


async def test_a_message_that_trips_our_code_holds_up_nobody(table: SenderTable, message: Message) -> None:
    bench = Bench(table)
    bad = await bench.store(1, b"no HL7 at all")
    good = await bench.store(2, message("c-2"))
    async with bench.running():
        assert await bench.cataloguer.caught_up(WAIT_S)
    assert bench.catalogue.messages[bad].findings == (NOT_CATALOGUED,)
    assert bench.catalogue.messages[good].findings == ()


async def test_a_catalogue_that_is_away_loses_nothing(table: SenderTable, message: Message) -> None:
    bench = Bench(table)
    bench.catalogue.away = True
    stored = await bench.store(1, message("c-1"))
    with pytest.raises(SuiteError, match=r"database\.unavailable"):
        await bench.cataloguer.run()
    assert len(await bench.intake.waiting(10)) == 1
    bench.catalogue.away = False
    async with bench.running():
        assert await bench.cataloguer.caught_up(WAIT_S)
    assert list(bench.catalogue.messages) == [stored]


async def test_messages_whose_keys_are_destroyed_are_passed_over(table: SenderTable, message: Message) -> None:
    bench = Bench(table, SomeKeys(OTHER_TENANT, "tenant.not-found"))
    await bench.store(1, message("c-1"), tenant=OTHER_TENANT)
    kept = await bench.store(2, message("c-2"))
    async with bench.running():
        assert await bench.cataloguer.caught_up(WAIT_S)
    assert list(bench.catalogue.messages) == [kept]
    assert await bench.intake.waiting(10) == []


async def test_messages_whose_keys_are_away_wait(table: SenderTable, message: Message) -> None:
    bench = Bench(table, SomeKeys(TENANT, "keys.unavailable"))
    await bench.store(1, message("c-1"))
    with pytest.raises(SuiteError, match=r"keys\.unavailable"):
        await bench.cataloguer.run()
    assert len(await bench.intake.waiting(10)) == 1


async def test_before_the_integrations_are_known_nothing_is_catalogued(table: SenderTable, message: Message) -> None:
    bench = Bench(table)
    bench.senders.known = False
    await bench.store(1, message("c-1"))
    async with bench.running():
        assert not await bench.cataloguer.caught_up(0.05)
        assert bench.catalogue.messages == {}
        bench.senders.known = True
        bench.cataloguer.stored()
        assert await bench.cataloguer.caught_up(WAIT_S)
    assert len(bench.catalogue.messages) == 1


async def test_where_another_replica_catalogues_the_store_says_whether_it_is_done(
    table: SenderTable, message: Message
) -> None:
    bench = Bench(table)
    assert await bench.cataloguer.caught_up(WAIT_S)
    await bench.store(1, message("c-1"))
    assert not await bench.cataloguer.caught_up(0.05)


async def test_under_load_a_slice_is_taken_and_then_rested(table: SenderTable, message: Message) -> None:
    bench = Bench(table, loaded=True)
    for number in range(250):
        await bench.store(number, message(f"c-{number}"))
    async with bench.running():
        async with asyncio.timeout(WAIT_S):
            await bench.catalogue.added.wait()
        assert not await bench.cataloguer.caught_up(0.05)
        assert bench.catalogue.batches == [100]
        bench.loaded = False
        assert await bench.cataloguer.caught_up(WAIT_S)
    assert sum(bench.catalogue.batches) == len(bench.catalogue.messages) == 250
