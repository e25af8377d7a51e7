"""Versions of mappings and values without a mapping, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.testing import OTHER_TENANT, TENANT
from sync.adapters.mapping_store import SqlMappingStore
from sync.core.mapping.value_map import Unmapped

CALLER = Caller(TENANT, "tester", frozenset())


@pytest.fixture
def store(database: Database, house: Any) -> SqlMappingStore:
    return SqlMappingStore(database, house.clock)


async def test_every_save_is_a_version_and_the_later_of_two_is_refused(store: SqlMappingStore) -> None:
    assert await store.get(TENANT, "int_1", "mapping/patient") is None
    await store.save(CALLER, "int_1", "mapping/patient", 0, [{"a": 1}], "first")
    second = await store.save(CALLER, "int_1", "mapping/patient", 1, [{"a": 2}], "second")
    with pytest.raises(SuiteError) as refused:
        await store.save(CALLER, "int_1", "mapping/patient", 1, [{"a": 3}], "too late")
    assert refused.value.code == "request.version-changed"
    await store.save(CALLER, "int_1", "value-map/payer", 0, [], "")
    assert await store.current_versions(TENANT, "int_1") == {"mapping/patient": 2, "value-map/payer": 1}
    assert await store.get(TENANT, "int_1", "mapping/patient") == second
    first = await store.get(TENANT, "int_1", "mapping/patient", 1)
    assert first is not None
    assert (first.content, first.note, first.saved_by) == ([{"a": 1}], "first", "tester")
    assert [each.version for each in await store.versions(TENANT, "int_1", "mapping/patient")] == [2, 1]
    assert await store.get(OTHER_TENANT, "int_1", "mapping/patient") is None


async def test_unmapped_values_are_counted_by_code(store: SqlMappingStore, database: Database) -> None:
    for counts in ({("s", "A", "Alpha"): 2, ("", "B", ""): 1}, {("s", "A", "Alpha"): 3}):
        async with database.write() as session:
            await store.count_unmapped(session, TENANT, "int_1", {"payer": Unmapped(counts)})
    found = await store.unmapped(TENANT, "int_1", "payer")
    assert [(each.source_system, each.source_code, each.display, each.times) for each in found] == [
        ("s", "A", "Alpha", 5),
        ("", "B", "", 1),
    ]
    assert await store.unmapped(TENANT, "int_1", "location") == []
