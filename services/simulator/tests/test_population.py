"""Twins, moved, duplicate and merged patients: functions of the index, the same in every view, listed as the truth."""

import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import hl7
import pytest

from common.models.access import Role as CallerRole
from common.testing import OTHER_TENANT, RunningSuite, make_test_runtime, running
from simulator.core.chart import Chart
from simulator.core.feed import FeedPlan, message_of
from simulator.core.population import Role, Shares, mistyped, places
from simulator.core.practice import make_practice
from simulator.core.resources import patient_resource
from simulator.core.unity_rows import patient_row
from simulator.module import build

PRACTICE = make_practice("demo", 7, patients=400, shares=Shares())
PEOPLE = PRACTICE.patients
NOW = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
POPULATION = "/simulator/v1/population"


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    async with running(make_test_runtime(tmp_path, "simulator"), build) as up:
        yield up


def pairs(role: Role):
    return [(PEOPLE.at(row.index), PEOPLE.at(row.partner)) for row in PRACTICE.special() if row.role is role]


def test_each_share_is_kept_and_nobody_has_two_roles() -> None:
    rows = list(PRACTICE.special())
    assert Counter(row.role for row in rows) == dict.fromkeys(Role, 4)
    involved = [row.index for row in rows] + [row.partner for row in rows if row.role is not Role.MOVED]
    assert len(set(involved)) == len(involved)
    most = list(places(3, Shares(10, 10, 10, 10), 500))
    assert len({row.index for row in most}) == 200
    assert all(row.partner < row.index for row in most if row.role is not Role.MOVED)


def test_a_role_is_a_function_of_the_index() -> None:
    larger = make_practice("demo", 7, patients=900, shares=Shares())
    assert [larger.patients.at(index) for index in range(400)] == list(PEOPLE.values())
    assert make_practice("demo", 7, patients=45, shares=Shares()).patients.at(3).guarantor is None


def test_twins_differ_in_given_name_and_number_alone() -> None:
    for twin, other in pairs(Role.TWIN):
        assert (twin.family, twin.birth_date, twin.address, twin.guarantor) == (
            other.family, other.birth_date, other.address, other.guarantor,
        )  # fmt: skip
        assert twin.guarantor == other.id
        assert twin.given[0] != other.given[0]
        assert twin.mrn != other.mrn


def test_duplicates_have_one_error() -> None:
    for double, other in pairs(Role.DUPLICATE):
        assert (double.family != other.family) + (double.birth_date != other.birth_date) == 1
        assert double.given == other.given
        assert double.mrn != other.mrn
        assert double.active


@pytest.mark.parametrize("seed", range(20))
def test_a_typing_error_is_one(seed: int) -> None:
    for family, born in (
        ("Lee", date(1980, 4, 3)),
        ("김", date(1980, 2, 29)),
        ("Aaa", date(1980, 5, 5)),
        ("O'B", None),
    ):
        wrong = mistyped(family, born, seed, 1)
        assert wrong != (family, born) or (born is None and family == "O'B")
        assert sorted(wrong[0]) == sorted(family)


def test_a_record_that_ended_says_so_in_every_view() -> None:
    for retired, survivor in pairs(Role.MERGED):
        ended, lives = patient_resource(PRACTICE, retired), patient_resource(PRACTICE, survivor)
        assert ended["active"] is False
        assert ended["link"] == [{"other": {"reference": f"Patient/{survivor.id}"}, "type": "replaced-by"}]
        assert lives["active"] is True
        assert lives["link"] == [{"other": {"reference": f"Patient/{retired.id}"}, "type": "replaces"}]
        row = patient_row(PRACTICE, retired)
        assert (row["Inactive"], row["MergedIntoID"]) == ("Y", str(PEOPLE.index_of(survivor.id) + 1))
        assert patient_row(PRACTICE, survivor)["Inactive"] == "N"
    chart = Chart(PRACTICE)
    seen = {row.patient for row in chart.appointments(NOW.date(), NOW.date() + timedelta(days=40))}
    assert seen == {row.id for row in PEOPLE.values() if row.active}


def test_the_feed_names_the_number_that_really_ended_and_sends_nothing_of_it() -> None:
    plan = FeedPlan("f", "demo", "127.0.0.1", 2575, 60.0, "constant", 1, 11, 5.0, mix={"ADT^A40": 1})
    retired = {ended.mrn: survivor.mrn for ended, survivor in pairs(Role.MERGED)}
    named = {}
    for sequence in range(600):
        message = hl7.parse(message_of(plan, Chart(PRACTICE), sequence, NOW).body.decode())
        number = str(message.segment("PID")[3]).split("^")[0]
        assert number not in retired
        if number in retired.values():
            named[str(message.segment("MRG")[1]).split("^")[0]] = number
    assert named
    assert named.items() <= retired.items()


def test_who_moved_has_both_addresses_in_both_views() -> None:
    from simulator.core.hl7_feed import pid_of

    for moved, _ in pairs(Role.MOVED):
        home, old = patient_resource(PRACTICE, moved)["address"]
        assert (home["use"], old["use"]) == ("home", "old")
        assert old["period"] == {"end": moved.moved_on.isoformat()}
        sent = pid_of(moved, frozenset()).split("|")[11].split("~")
        assert [part.split("^")[0] for part in sent] == [home["line"][0], old["line"][0]]
        assert f"{moved.moved_on:%Y%m%d}" in sent[1]


def test_roles_cost_no_memory() -> None:
    tracemalloc.start()
    practice = make_practice("big", 7, patients=20_000, shares=Shares())
    assert sum(1 for _ in practice.special()) == 800
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / 20_000 < 550


async def pages(client, **query: str) -> list[dict]:
    items, cursor = [], ""
    while cursor is not None:
        page = await client.get(POPULATION, params=query | {"limit": 3} | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        cursor = page.json()["next"]
    return items


async def test_the_truth_is_listed_page_by_page(suite: RunningSuite) -> None:
    async with suite.client(CallerRole.INTEGRATION_ADMIN) as admin:
        overview = (await admin.get("/simulator/v1")).json()["practices"][0]
        assert overview["population"] == {"twin": 2, "moved": 2, "duplicate": 2, "merged": 0}
        assert len(await pages(admin)) == 6
        made = await admin.post("/simulator/v1/servers", json={"name": "south", "vendor": "fhir", "patients": 250})
        items = await pages(admin, server="south")
        counts = (await admin.get(POPULATION, params={"server": "south"})).json()["counts"]
        assert Counter(row["role"] for row in items) == counts == made.json()["population"]
        assert len({row["patient"] for row in items}) == 8
        merged = await pages(admin, server="south", role="merged")
        assert [row for row in items if row["role"] == "merged"] == merged
        assert all(row["same_person"] and row["other_mrn"] for row in merged)


async def test_a_server_has_the_shares_that_were_asked_for(suite: RunningSuite) -> None:
    body = {"name": "north", "vendor": "epic", "patients": 200, "population": {"twins": 5, "merged": 0}}
    async with suite.client(CallerRole.INTEGRATION_ADMIN) as admin:
        made = await admin.post("/simulator/v1/servers", json=body)
        assert made.json()["population"] == {"twin": 10, "moved": 2, "duplicate": 2, "merged": 0}
        rows = (await admin.get(POPULATION, params={"server": "north", "role": "twin"})).json()["items"]
        assert len(rows) == 10
        for wrong in ({"twins": 11}, {"twins": -1}, {"triplets": 1}):
            refused = await admin.post("/simulator/v1/servers", json=body | {"name": "other", "population": wrong})
            assert refused.status_code == 422, refused.text
    async with suite.client(CallerRole.INTEGRATION_ADMIN, tenant=OTHER_TENANT) as stranger:
        assert (await stranger.get(POPULATION, params={"server": "north"})).status_code == 404


@pytest.mark.parametrize(
    ("query", "status"),
    [({"role": "triplet"}, 422), ({"practice": "none"}, 404), ({"server": "none"}, 404), ({"cursor": "x"}, 400),
     ({"practice": "demo", "server": "north"}, 422)],
)  # fmt: skip
async def test_wrong_questions(suite: RunningSuite, query: dict[str, str], status: int) -> None:
    async with suite.client(CallerRole.VIEWER) as viewer:
        assert (await viewer.get(POPULATION, params=query)).status_code == status
