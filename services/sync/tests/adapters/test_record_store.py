"""Searching, reading and paging of records, cross-references and the quarantine."""

from __future__ import annotations

from typing import Any

import pytest

from common.models.errors import SuiteError
from common.runtime import audit
from common.runtime.authentication import Caller
from common.testing import OTHER_TENANT, TENANT
from sync.ports import RecordQuery

CALLER = Caller(TENANT, "tester", frozenset())
STRANGER = Caller(OTHER_TENANT, "stranger", frozenset())


async def values(house: Any, **query: Any) -> list[str]:
    return sorted(row["record"]["identifiers"][0]["value"] for row in await house.find(**query))


async def test_names_are_searched_by_prefix_without_case_and_diacritics(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, name=[{"family": "Øster", "given": ["Zoë", "Ann"]}])
    await house.run()
    assert await values(house, name="NUNEZ") == ["4000", "4002", "4003", "4004"]
    assert await values(house, name="nunez2 an") == ["4002"]
    assert await values(house, name="zoe ann o") == ["4001"]
    assert await values(house, name="ann ø") == ["4001"]
    assert await values(house, name="oes") == []
    assert await values(house, name="%") == []


async def test_a_renamed_patient_is_found_by_the_new_name_only(house: Any, make: Any) -> None:
    await house.run()
    house.pms.patients["p1"] = make.patient(1, name=[{"family": "Other"}])
    await house.run()
    assert await values(house, name="other") == ["4001"]
    assert await values(house, name="nunez1") == []


async def test_searches_by_birth_date_identifier_and_change(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, birthDate="1971")
    await house.run()
    assert await values(house, birth_date="1971") == ["4001"]
    assert await values(house, identifier_value="4002") == ["4002"]
    assert await values(house, identifier_value="4002", identifier_system="urn:oid:other") == []
    since = house.clock.now()
    house.pms.patients["p3"] = make.patient(3, birthDate="1972")
    await house.run()
    assert await values(house, updated_after=since) == ["4003"]
    assert await values(house, name="nunez", birth_date="1972") == ["4003"]


@pytest.mark.parametrize("by_change", [False, True])
async def test_pages_hold_every_record_once(house: Any, by_change: bool) -> None:
    start = house.clock.now()
    await house.run()
    query = RecordQuery(updated_after=start) if by_change else RecordQuery()
    found: list[str] = []
    cursor = None
    while True:
        page = await house.records.search(CALLER, "patient", query, cursor, 2)
        found += [item["id"] for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(found) == len(set(found)) == 5
    with pytest.raises(SuiteError, match=r"request\.bad-cursor"):
        await house.records.search(CALLER, "patient", query, "nonsense", 2)


async def test_versions_say_what_changed_and_who_said_it(house: Any, make: Any) -> None:
    run = await house.run()
    await house.receive(("ADT^A08", make.pid(1, "New^Ana")))
    (found,) = await house.find(identifier_value="4001")
    page = await house.records.versions(CALLER, "patient", found["id"], None, 1)
    (newest,) = page.items
    assert (newest["version"], newest["changed"], newest["origin"]) == (2, ["names"], "hl7v2")
    assert newest["event_time"] == "2026-03-01T15:00:00.000Z"
    (first,) = (await house.records.versions(CALLER, "patient", found["id"], page.next, 1)).items
    assert (first["version"], first["source_id"], first["event_time"]) == (1, run.id, None)


async def test_cross_references_lead_both_ways(house: Any) -> None:
    await house.run()
    (found,) = await house.find(identifier_value="4001")
    by_record = await house.records.cross_references(CALLER, {"record_id": found["id"]}, None, 10)
    by_external = await house.records.cross_references(CALLER, {"external_id": "p1"}, None, 10)
    assert by_record.items == by_external.items
    assert by_record.items[0]["external_id"] == "p1"


async def test_another_tenant_sees_nothing(house: Any) -> None:
    await house.run()
    (found,) = await house.find(identifier_value="4001")
    assert (await house.records.search(STRANGER, "patient", RecordQuery(), None, 10)).items == []
    assert (await house.records.cross_references(STRANGER, {}, None, 10)).items == []
    with pytest.raises(SuiteError, match=r"record\.not-found"):
        await house.records.get(STRANGER, "patient", found["id"])
    with pytest.raises(SuiteError, match=r"record\.not-found"):
        await house.records.get(CALLER, "appointment", found["id"])


async def test_reading_is_audited_without_contents(house: Any) -> None:
    await house.run()
    (found,) = await house.find(name="nunez1")
    await house.records.get(CALLER, "patient", found["id"])
    async with house.database.read() as session:
        entries = (await audit.search(session, TENANT, {}, None, 10)).items
    assert [entry["action"] for entry in entries] == ["record.read", "record.searched"]
    assert "nunez" not in repr(entries).lower()


async def test_a_page_takes_a_few_statements_however_many_records_it_has(house: Any, make: Any) -> None:
    """Bulk, not row by row: twenty times the rows, the same number of statements."""
    counts = []
    for size, base in ((5, 100), (100, 1000)):
        numbers = range(base, base + size)
        house.pms.patients = {f"p{number}": make.patient(number) for number in numbers}
        house.pms.pages = [[make.appointment(number, number) for number in numbers]]
        with counted_statements(house.database) as statements:
            await house.run()
        # How often the run's own row (`records_read`) is looked at depends on how long a page takes.
        counts.append(sum("record" in each and "records_read" not in each for each in statements))
    assert counts[0] == counts[1]


class counted_statements:  # noqa: N801 - reads as a verb
    def __init__(self, database: Any) -> None:
        self._engine = database._writer.sync_engine
        self.statements: list[str] = []

    def __enter__(self) -> list[str]:
        from sqlalchemy import event

        event.listen(self._engine, "before_cursor_execute", self._seen)
        return self.statements

    def __exit__(self, *_: object) -> None:
        from sqlalchemy import event

        event.remove(self._engine, "before_cursor_execute", self._seen)

    def _seen(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        self.statements.append(statement)
