"""The audit log: one chain per tenant, which shows what was changed in it."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from common.models.access import Role
from common.models.errors import SuiteError
from common.models.identifiers import check_id
from common.runtime import audit
from common.runtime.audit import Audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.tables import AUDIT
from contracts.conftest import NewDatabase
from contracts.recorded_bus import AT, TENANT

CALLER = Caller(TENANT, "dr-who", frozenset({Role.AUDITOR}))
OTHER = Caller("ten_01h455vb4pex5vsknk084sn02r", "dr-who", frozenset({Role.AUDITOR}))


def entry(number: int = 0, caller: Caller = CALLER, **values: Any) -> Audit:
    time = AT + timedelta(seconds=number, microseconds=1500)
    return Audit(**{"action": "webhook.created", "subject": f"whk_{number}", "caller": caller, "time": time, **values})


async def record(database: Database, *entries: Audit) -> None:
    for one in entries:
        async with database.write() as session:
            await audit.record(session, one)


async def verified(database: Database, tenant: str = TENANT) -> str | None:
    async with database.read() as session:
        return await audit.verify(session, tenant)


async def found(database: Database, tenant: str = TENANT, **filters: Any) -> list[dict[str, Any]]:
    async with database.read() as session:
        return list((await audit.search(session, tenant, filters, None, 100)).items)


class TestAudit:
    async def test_entries_of_many_replicas_make_one_chain_per_tenant(self, new_database: NewDatabase) -> None:
        replicas = [new_database() for _ in range(2)]
        for replica in replicas:
            await replica.open()
        callers = itertools.cycle((CALLER, CALLER, OTHER))
        entries = [entry(number, next(callers)) for number in range(30)]
        await asyncio.gather(*(record(replicas[number % 2], one) for number, one in enumerate(entries)))
        assert sorted(item["sequence"] for item in await found(replicas[0])) == list(range(1, 21))
        assert sorted(item["sequence"] for item in await found(replicas[0], OTHER.tenant)) == list(range(1, 11))
        assert await verified(replicas[0]) is None
        assert await verified(replicas[1], OTHER.tenant) is None
        for replica in replicas:
            await replica.close()

    @pytest.mark.parametrize("change", ["altered", "removed", "inserted"])
    async def test_the_first_entry_that_does_not_follow_is_named(self, database: Database, change: str) -> None:
        await record(database, *(entry(number) for number in range(5)))
        by_number = {item["sequence"]: item["id"] for item in await found(database)}
        async with database.write() as session:
            if change == "altered":
                await session.execute(update(AUDIT).where(AUDIT.c.sequence == 3).values(caller="somebody-else"))
            elif change == "removed":
                await session.execute(delete(AUDIT).where(AUDIT.c.sequence == 3))
            else:
                row = (await session.execute(select(AUDIT).where(AUDIT.c.sequence == 5))).one()._asdict()
                await session.execute(AUDIT.insert().values(**{**row, "sequence": 6, "id": by_number[5]}))
        assert await verified(database) == by_number[{"altered": 3, "removed": 4, "inserted": 5}[change]]

    async def test_an_entry_of_a_transaction_that_rolled_back_is_not_there(self, database: Database) -> None:
        with pytest.raises(RuntimeError):  # noqa: PT012 - the block is one transaction
            async with database.write() as session:
                await audit.record(session, entry(1))
                raise RuntimeError
        await record(database, entry(2))
        assert [(item["sequence"], item["subject"]) for item in await found(database)] == [(1, "whk_2")]

    async def test_only_what_is_listed_of_the_detail_is_kept(self, database: Database) -> None:
        detail = {"code": "peer.tls", "count": 3, "patient": "Zoë", "operation": "Zoë Example", "channel": "adt"}
        await record(database, entry(1, detail=detail, reason="x" * 600, outcome="auth.forbidden"))
        (item,) = await found(database)
        assert item["detail"] == {"code": "peer.tls", "count": 3, "channel": "adt"}
        assert (len(item["reason"]), item["outcome"], item["time"]) == (
            500,
            "auth.forbidden",
            "2026-03-01T09:30:01.001Z",
        )
        assert check_id(item["id"], "aud") == item["id"]

    async def test_search_by_action_subject_caller_and_time(self, database: Database) -> None:
        await record(database, entry(1), entry(2, action="message.read"), entry(3, OTHER))
        assert [item["subject"] for item in await found(database)] == ["whk_2", "whk_1"]
        assert [item["subject"] for item in await found(database, action="message.read")] == ["whk_2"]
        assert [item["subject"] for item in await found(database, subject="whk_1", caller="dr-who")] == ["whk_1"]
        assert [item["subject"] for item in await found(database, before=AT + timedelta(seconds=2))] == ["whk_1"]
        assert [item["subject"] for item in await found(database, after=AT + timedelta(seconds=2))] == ["whk_2"]
        assert await found(database, caller="nobody") == []

    async def test_search_in_pages(self, database: Database) -> None:
        await record(database, *(entry(number) for number in range(5)))
        subjects, cursor = [], None
        for _ in range(3):
            async with database.read() as session:
                page = await audit.search(session, TENANT, {}, cursor, 2)
            subjects += [item["subject"] for item in page.items]
            cursor = page.next
        assert (subjects, cursor) == (["whk_4", "whk_3", "whk_2", "whk_1", "whk_0"], None)
        async with database.read() as session:
            with pytest.raises(SuiteError) as caught:
                await audit.search(session, TENANT, {}, "no-cursor", 2)
        assert caught.value.code == "request.bad-cursor"

    async def test_export_is_fhir_audit_events(self, database: Database) -> None:
        await record(
            database,
            entry(1),
            entry(2, action="message.body-read", reason="complaint 17", detail={"count": 1}),
            entry(3, outcome="auth.forbidden"),
            entry(4, OTHER),
        )
        lines = b"".join([part async for part in audit.export(database, TENANT)]).splitlines()
        events = [json.loads(line) for line in lines]
        assert [event["action"] for event in events] == ["C", "R", "C"]
        assert [event["outcome"] for event in events] == ["0", "0", "4"]
        assert events[1]["purposeOfEvent"] == [{"text": "complaint 17"}]
        assert {"type": "count", "valueString": "1"} in events[1]["entity"][0]["detail"]
        for event in events:
            assert event["resourceType"] == "AuditEvent"
            assert {"type", "recorded", "agent", "source"} <= set(event)
            assert event["agent"] == [{"who": {"identifier": {"value": "dr-who"}}, "requestor": True}]
            assert "_" not in event["id"]
        assert [part async for part in audit.export(database, "ten_none")] == []
