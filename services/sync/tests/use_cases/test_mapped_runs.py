"""Runs under a mapping of the integration's own: compiled by version, refusals, values without a mapping."""

from __future__ import annotations

from typing import Any

from common.runtime.authentication import Caller
from common.testing import TENANT
from sync.core.mapping.mapper import default_rows
from sync.core.mapping.saved import rows_json
from sync.core.run import Resource
from sync.core.run_state import RunState

CALLER = Caller(TENANT, "tester", frozenset())


async def save(house: Any, record_type: str, changed: dict[str, dict[str, Any]], after: int = 0) -> None:
    """The default with some rows replaced (by target), or added."""
    rows = {row["target"]: row for row in rows_json(default_rows(record_type))}
    blank = {"source": "", "transforms": [], "default": None, "required": False, "note": ""}
    rows |= {target: {**blank, "target": target, **row} for target, row in changed.items()}
    integration_id = next(iter(house.directory.known))
    await house.mappings.save(CALLER, integration_id, f"mapping/{record_type}", after, list(rows.values()), "")


async def test_without_a_mapping_of_its_own_the_default_is_used_and_compiled_once(house: Any) -> None:
    run = await house.run()
    assert (run.state, run.created) == (RunState.FINISHED, 5)
    integration_id = run.integration_id
    first = await house.load_mapper(TENANT, integration_id)
    assert first.compiled == {}
    assert await house.load_mapper(TENANT, integration_id) is first
    await save(house, "patient", {})
    second = await house.load_mapper(TENANT, integration_id)
    assert second is not first
    assert list(second.compiled) == ["Patient"]
    assert await house.load_mapper(TENANT, integration_id) is second
    # The default's own rows, compiled, change nothing of what is stored.
    again = await house.run()
    assert (again.updated, again.unchanged, again.quarantined) == (0, 5, 0)


async def test_a_saved_mapping_is_what_the_next_run_uses(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, birthDate="1970-05-17", gender="F")
    await save(house, "patient", {"gender": {
        "source": "gender",
        "transforms": [{"name": "lookup", "parameters": {"table": {"F": "female"}, "unknown": "reject"}}],
    }})  # fmt: skip
    run = await house.run()
    assert (run.created, run.quarantined) == (5, 0)
    (found,) = await house.find(identifier_value="4001")
    assert found["record"]["gender"] == "female"


async def test_what_a_row_can_not_take_is_quarantined_with_row_rule_and_value_class(house: Any, make: Any) -> None:
    house.pms.patients["p1"] = make.patient(1, gender="X")
    # A telecom without a value is left out, with the default as with any other mapping.
    house.pms.patients["p2"] = make.patient(2, telecom=[{"system": "phone"}])
    await save(house, "patient", {"gender": {"source": "gender"}})
    run = await house.run()
    assert (run.created, run.quarantined) == (4, 1)
    page = await house.quarantine.list(TENANT, None, None, None, 10)
    (row,) = page.items
    assert (row.code, row.value_class) == ("record.invalid", "text")
    number = [each.target for each in default_rows("patient").rows].index("gender") + 1
    assert row.rule.startswith(f"row {number} gender ")


async def test_values_without_a_mapping_are_counted_once_per_page_that_is_kept(house: Any, make: Any) -> None:
    for number in range(3):
        house.pms.pages[0][number] = make.appointment(
            number, number, appointmentType={"coding": [{"system": "s", "code": "NEWPT", "display": "New patient"}]}
        )
    await save(house, "appointment", {"description": {
        "source": "appointmentType.coding.first()",
        "transforms": [{"name": "value-map", "parameters": {"map": "appointment-type", "unknown": "absent"}}],
    }})  # fmt: skip
    run = await house.run(Resource.APPOINTMENT)
    assert run.state is RunState.FINISHED
    found = await house.mappings.unmapped(TENANT, run.integration_id, "appointment-type")
    assert [(row.source_system, row.source_code, row.display, row.times) for row in found] == [
        ("s", "NEWPT", "New patient", 3)
    ]
    rows = [{"source_system": "s", "source_code": "newpt", "display": "", "target_code": "new"}]
    await house.mappings.save(CALLER, run.integration_id, "value-map/appointment-type", 0, rows, "")
    again = await house.run(Resource.APPOINTMENT)
    assert again.updated == 3
    assert [row.times for row in await house.mappings.unmapped(TENANT, run.integration_id, "appointment-type")] == [3]
    assert {row["record"].get("description") for row in await house.find("appointment")} == {"new", None}


async def test_a_saved_mapping_that_no_longer_compiles_fails_the_run_by_name(house: Any) -> None:
    await save(house, "patient", {"gender": {"source": "gender", "transforms": [{"name": "gone", "parameters": {}}]}})
    run = await house.run()
    assert (run.state, run.error_code) == (RunState.FAILED, "mapping.refused")
