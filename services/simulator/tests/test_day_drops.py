"""Files of a day: dropped whole into the configured folder, and the same as what FHIR and HL7 tell."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import hl7
import pytest

from common.models.access import Role
from common.models.clock import FixedClock
from common.testing import RunningSuite, make_test_runtime, running
from hl7v2 import parse, validate
from simulator.adapters.drop_folder import DropFolder
from simulator.core.chart import Chart
from simulator.core.day import OPENS, instant_of
from simulator.core.day_files import CSV_COLUMNS, FileForm
from simulator.core.day_run import begin, compose_told, happen
from simulator.core.practice import make_practice
from simulator.module import build
from simulator.use_cases.drop_files import ATTEMPTS_MAX, DropPlan, Drops

DAY = "/simulator/v1/servers/north/day"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 4, 13, 30, tzinfo=UTC))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "drops"


@pytest.fixture
async def suite(
    tmp_path: Path, clock: FixedClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningSuite]:
    monkeypatch.setenv("PS_SIMULATOR_DROP_FOLDER", str(folder))
    async with running(make_test_runtime(tmp_path, "simulator", clock=clock), build) as up:
        yield up


async def lived(suite: RunningSuite, clock: FixedClock, drop: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A whole day with files: its end state, and the kinds of its messages in order."""
    async with suite.client(Role.INTEGRATION_ADMIN) as admin:
        body = {"name": "north", "vendor": "fhir", "patients": 300}
        assert (await admin.post("/simulator/v1/servers", json=body)).status_code == 201
        begun = await admin.put(DAY, json={"day": "2026-03-04", "speed": 3600, "drop": drop})
        assert begun.status_code == 200, begun.text
        assert begun.json()["drop"]["files"] == []
        clock.advance(24)
        state = await wait_until_ended(admin)
        rows = (await admin.get(f"{DAY}/events", params={"limit": 200})).json()["items"]
        assert len(rows) == state["events"]
        return state, [kind for row in rows for kind in row["messages"]]


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def wait_until_ended(client: Any) -> dict[str, Any]:
    for _ in range(400):
        state = (await client.get(DAY)).json()
        if state["state"] == "ended":
            return dict(state)
        await asyncio.sleep(0.05)
    raise AssertionError("the day did not end")


async def test_batches_hold_every_message_of_the_day(suite: RunningSuite, clock: FixedClock, folder: Path) -> None:
    state, told = await lived(suite, clock, {"every_minutes": 60})
    names = state["drop"]["files"]
    assert len(names) > 5
    held = sizes(folder)
    assert held.keys() == set(names), "nothing half written is left"
    assert state["drop"]["file_bytes"] == sum(held.values())
    kinds: list[str] = []
    for name in names:
        rows = (folder / name).read_bytes().decode().split("\r")
        assert [row[:3] for row in rows[:2]] == ["FHS", "BHS"]
        assert [row[:3] for row in rows[-3:]] == ["BTS", "FTS", ""]
        bodies = ["MSH" + part for part in "\r".join(rows[2:-3]).split("MSH")[1:]]
        assert rows[-3] == f"BTS|{len(bodies)}"
        for body in bodies:
            assert [one for one in validate(parse(body.encode())) if one.severity == "error"] == []
            kinds.append("^".join(str(hl7.parse(body).segment("MSH")[9]).split("^")[:2]))
    assert kinds == told


async def test_csv_has_a_line_for_each_message(suite: RunningSuite, clock: FixedClock, folder: Path) -> None:
    state, told = await lived(suite, clock, {"form": "csv", "every_minutes": 1440})
    (name,) = state["drop"]["files"]
    rows = list(csv.DictReader(io.StringIO((folder / name).read_bytes().decode(), newline="")))
    assert [row["event"] for row in rows] == told
    assert tuple(rows[0]) == CSV_COLUMNS
    assert all(row["retired_mrn"] for row in rows if row["event"] == "ADT^A40")
    assert {row["status"] for row in rows if row["event"] == "DFT^P03"} == {"fulfilled"}


@pytest.mark.parametrize("drop", [{"form": "xml"}, {"every_minutes": 0}, {"folder": "/tmp"}])
async def test_wrong_drops_are_refused(suite: RunningSuite, drop: dict[str, Any]) -> None:
    async with suite.client(Role.OPERATOR) as operator:
        refused = await operator.put("/simulator/v1/practices/demo/day", json={"drop": drop})
        assert refused.status_code == 422, refused.text


async def test_without_a_folder_there_are_no_drops(tmp_path: Path, clock: FixedClock) -> None:
    up = running(make_test_runtime(tmp_path, "simulator", clock=clock), build)
    async with up as suite, suite.client(Role.OPERATOR) as operator:
        refused = await operator.put("/simulator/v1/practices/demo/day", json={"drop": {}})
        assert refused.status_code == 422
        assert "PS_SIMULATOR_DROP_FOLDER" in refused.text
        assert (await operator.get("/simulator/v1/practices/demo/day")).status_code == 404


class FullDisk:
    """A folder that refuses so many times."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.names: list[str] = []

    async def put(self, name: str, body: bytes) -> None:
        self.left -= 1
        if self.left >= 0:
            raise OSError(28, "No space left on device")
        self.names.append(name)


def filled() -> Drops:
    chart = Chart(make_practice("demo", 7, patients=300))
    day = date(2026, 3, 4)
    opens = instant_of(chart.practice, day, OPENS)
    drops = Drops(DropPlan(FileForm.HL7, 1440), chart, "20260304-20260304133000", opens.replace(hour=23))
    for event in begin(chart, day, 1):
        for told in happen(chart, event, event.at):
            drops.tell(event.at, told, compose_told(chart, told, event.at, "c1"))
    drops.close(opens)
    return drops


@pytest.mark.parametrize(("times", "failed"), [(ATTEMPTS_MAX - 1, 0), (ATTEMPTS_MAX, 1)])
async def test_a_full_disk_is_tried_again_and_then_counted(times: int, failed: int) -> None:
    drops, disk = filled(), FullDisk(times)
    for _ in range(ATTEMPTS_MAX):
        await drops.write(disk)
    assert (drops.failed, len(drops.written), len(drops.waiting)) == (failed, 1 - failed, 0)
    assert disk.names == drops.written


async def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.hl7").mkdir()
    with pytest.raises(OSError, match="taken"):
        await DropFolder(tmp_path).put("taken.hl7", b"x")
    assert sizes(tmp_path).keys() == {"taken.hl7"}
    await DropFolder(tmp_path / "new").put("one.hl7", b"x")
    assert (tmp_path / "new" / "one.hl7").read_bytes() == b"x"
