"""An offboarding step by step: what may be done when, exports that stop half-way, and what is over in time."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Table, select

from auth_gateway.adapters.integration_store import SqlIntegrationStore
from auth_gateway.adapters.offboarding_store import SqlOffboardings
from auth_gateway.adapters.offboarding_tables import OffboardingChunkRow, OffboardingRow
from auth_gateway.adapters.tenant_state_store import SqlTenantStates
from auth_gateway.core.offboarding import (
    SWEPT_AFTER,
    ExportFile,
    Offboarding,
    Phase,
    check_destroyable,
    not_downloaded,
    since_export,
)
from auth_gateway.module import build
from auth_gateway.use_cases.offboard_tenant import Asked, OffboardTenant
from common.models.access import Role
from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.events import Event
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.event_text import parse_event
from common.runtime.tables import OUTBOX
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

AT = datetime(2026, 3, 1, tzinfo=UTC)
OPERATOR = Caller("platform", "user:operator", frozenset({Role.PLATFORM_OPERATOR}))
KEPT = timedelta(days=30)
CHUNK: Table = OffboardingChunkRow.__table__  # type: ignore[attr-defined]
ROW: Table = OffboardingRow.__table__  # type: ignore[attr-defined]
PAGES = [b'{"n": 1}\n{"n": 2}\n', b'{"n": 3}\n', b'{"n": "\xc3\xa9"}\n']


class Holders:
    """Services in memory: one part of three pages; `fails_at`: the call that finds nobody."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails_at = -1
        self.runs = 0

    async def counts(self, service: str, tenant: str) -> Mapping[str, int]:
        return {"record": 4, "empty": 0}

    async def page(self, service: str, tenant: str, part: str, cursor: str) -> tuple[bytes, str | None]:
        self.asked.append(f"{part}@{cursor}")
        if len(self.asked) == self.fails_at:
            raise SuiteError("service.unavailable")
        if part == "empty":
            return b"", None
        place = int(cursor or 0)
        return PAGES[place], str(place + 1) if place + 1 < len(PAGES) else None

    async def runs_going(self, tenant: str) -> int:
        return self.runs


class Desk:
    """An offboarding desk on the database of a running auth-gateway, with a clock of its own."""

    def __init__(self, suite: RunningSuite) -> None:
        found, ids = suite.host.modules[0].database, suite.runtime.ids
        assert found is not None
        self.database: Database = found
        self.clock = FixedClock(AT)
        self.holders = Holders()
        integrations = SqlIntegrationStore(found, self.clock, ids, "/test")
        states = SqlTenantStates(found, integrations, self.clock, ids, "/test")
        self.store = SqlOffboardings(found, states, suite.runtime.wrapper, self.clock, ids, "/test", KEPT)
        self.offboard = OffboardTenant(self.store, self.holders, states.get, self.confirm, ("sync",), self.clock)

    async def confirm(self, text: str) -> str:
        return text

    async def step(self, **given: bool) -> str:
        preview = await self.offboard.preview(TENANT)
        flags = {"despite_runs": False, "without_download": False, **given}
        return str((await self.offboard.go_on(OPERATOR, TENANT, self.asked(preview["confirmation"], **flags)))["phase"])

    def asked(self, confirmation: str, *, despite_runs: bool = False, without_download: bool = False) -> Asked:
        return Asked("contract ended", confirmation, despite_runs, without_download)

    async def here(self) -> Offboarding:
        return await self.offboard.here(TENANT)

    async def acknowledge(self, module: str, rows: int, offboarding_id: str | None = None) -> None:
        data = {"offboarding_id": offboarding_id or (await self.here()).id, "module": module, "rows": rows}
        event = Event("evt_1", "ps.tenant.erased", "/sync", TENANT, AT, TENANT, TENANT, data)
        async with self.database.write() as session:
            await self.store.acknowledge(session, [event])

    async def told(self, kind: str) -> int:
        async with self.database.read() as session:
            texts = (await session.execute(select(OUTBOX.c.event))).scalars()
            return [parse_event(text).type for text in texts].count(kind)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("PS_AUTH_OFFBOARDING_EVERY_S", "3600")
    async with running(make_test_runtime(tmp_path, "auth-gateway"), build) as suite:
        async with suite.client(Role.PLATFORM_OPERATOR, tenant="platform") as client:
            for tenant in (TENANT, OTHER_TENANT):
                assert (await client.post("/auth/v1/tenants", json={"name": "p", "id": tenant})).status_code == 201
        yield Desk(suite)


async def code_of(awaitable: object) -> str:
    try:
        await awaitable  # type: ignore[misc]
    except SuiteError as error:
        return error.code
    return "ok"


@pytest.mark.parametrize("fails_at", range(1, 5))
async def test_an_export_that_stops_goes_on_with_the_page_it_stopped_at(desk: Desk, fails_at: int) -> None:
    await desk.step()
    desk.holders.fails_at = fails_at
    with pytest.raises(SuiteError) as away:
        await desk.offboard.advance(await desk.here())
    assert away.value.code == "service.unavailable"
    assert (await desk.here()).phase is Phase.EXPORTING
    assert await code_of(desk.offboard.file(TENANT, "sync/record.ndjson")) == "tenant.export-not-ready"
    await desk.offboard.advance(await desk.here())
    assert (await desk.here()).phase is Phase.EXPORTED
    asked = [call for place, call in enumerate(desk.holders.asked, start=1) if place != fails_at]
    assert asked == ["empty@", "record@", "record@1", "record@2"]
    offboarding, file = await desk.offboard.file(TENANT, "sync/record.ndjson")
    body = b"".join([part async for part in desk.offboard.download(OPERATOR, offboarding, file)])
    assert body == b"".join(PAGES)
    assert (file.rows, file.size_bytes, file.sha256) == (4, len(body), hashlib.sha256(body).hexdigest())
    assert not_downloaded(await desk.store.files(offboarding.id)) == []


async def test_two_replicas_do_not_write_the_same_page(desk: Desk) -> None:
    await desk.step()
    offboarding = await desk.here()
    await desk.store.plan(offboarding.id, ["sync/record.ndjson"])
    (file,) = await desk.store.files(offboarding.id)
    await desk.store.append(offboarding.id, file, PAGES[0], "1")
    assert await code_of(desk.store.append(offboarding.id, file, PAGES[0], "1")) == "lease.lost"
    await desk.store.plan(offboarding.id, ["sync/record.ndjson"])
    assert [(one.chunks, one.cursor) for one in await desk.store.files(offboarding.id)] == [(1, "1")]


async def test_an_export_lies_sealed_and_ends_with_its_key(desk: Desk) -> None:
    await desk.step()
    await desk.offboard.advance(await desk.here())
    offboarding = await desk.here()
    async with desk.database.read() as session:
        chunks = (await session.execute(select(CHUNK.c.sealed))).scalars().all()
    assert len(chunks) == 4
    assert not [sealed for sealed in chunks if b'{"n"' in sealed]
    desk.clock.advance(KEPT.total_seconds() + 1)
    # Nothing is destroyed yet: the export is all that was promised, and stays.
    await desk.offboard.advance(offboarding)
    assert not (await desk.here()).export_deleted
    assert await desk.step(without_download=True) == "destroying"
    await desk.offboard.advance(await desk.here())
    assert await code_of(desk.offboard.file(TENANT, "sync/record.ndjson")) == "tenant.export-gone"
    async with desk.database.read() as session:
        assert (await session.execute(select(CHUNK))).first() is None
        assert (await session.execute(select(ROW.c.wrapped_key))).scalar_one() is None


async def test_it_is_over_when_every_service_has_told_and_swept_once_more_later(desk: Desk) -> None:
    await desk.step()
    await desk.offboard.advance(await desk.here())
    assert await desk.told("ps.tenant.erase") == 0
    assert await desk.step(without_download=True) == "destroying"
    assert await desk.told("ps.tenant.erase") == 1
    assert (await desk.offboard.state(TENANT))["missing"] == ["sync"]
    await desk.acknowledge("sync", 7, "off_01hf7yat00e008000000000009")
    await desk.acknowledge("alerts", 1)
    assert (await desk.here()).phase is Phase.DESTROYING
    await desk.acknowledge("sync", 7)
    ended = await desk.here()
    assert (ended.phase, ended.missing, ended.acknowledged["sync"]) == (Phase.OFFBOARDED, [], 7)
    await desk.offboard.advance(ended)
    assert await desk.told("ps.tenant.erase") == 1
    desk.clock.advance(SWEPT_AFTER.total_seconds())
    for _ in range(2):
        await desk.offboard.advance(await desk.here())
        await desk.offboard.advance(ended)
    assert await desk.told("ps.tenant.erase") == 2
    await desk.acknowledge("sync", 2)
    assert (await desk.here()).acknowledged["sync"] == 9
    # Sent once more by somebody who has not seen the answer: nothing happens, and the state is told.
    again = await desk.offboard.go_on(OPERATOR, TENANT, desk.asked("whatever"))
    assert again["phase"] == "offboarded"


async def test_steps_are_refused_by_name(desk: Desk) -> None:
    desk.holders.runs = 2
    assert await code_of(desk.step()) == "tenant.runs-going"
    assert await code_of(desk.offboard.state(TENANT)) == "tenant.not-found"
    assert await desk.step(despite_runs=True) == "exporting"
    assert await code_of(desk.store.begin(OPERATOR, TENANT, "again", ["sync"])) == "tenant.offboarding"
    assert await code_of(desk.step()) == "tenant.export-not-ready"
    await desk.offboard.advance(await desk.here())
    assert await code_of(desk.step()) == "tenant.runs-going"
    assert await code_of(desk.step(despite_runs=True)) == "tenant.export-not-downloaded"
    assert (await desk.here()).destroyed_at is None


DONE = Offboarding("off_1", TENANT, "p", Phase.EXPORTED, "r", "o", AT, ("sync",))
FILE = ExportFile("sync/record.ndjson", rows=2, sha256="x", cursor=None)


@pytest.mark.parametrize(
    ("phase", "files", "runs", "flags", "code"),
    [
        (Phase.EXPORTING, [], 0, (True, True), "tenant.export-not-ready"),
        (Phase.EXPORTED, [FILE], 0, (False, False), "tenant.export-not-downloaded"),
        (Phase.EXPORTED, [FILE], 0, (False, True), "ok"),
        (Phase.EXPORTED, [replace(FILE, downloaded_at=AT)], 0, (False, False), "ok"),
        (Phase.EXPORTED, [replace(FILE, rows=0)], 0, (False, False), "ok"),
        (Phase.EXPORTED, [replace(FILE, downloaded_at=AT)], 1, (False, False), "tenant.runs-going"),
        (Phase.EXPORTED, [replace(FILE, downloaded_at=AT)], 1, (True, False), "ok"),
    ],
)
def test_when_keys_may_be_destroyed(
    phase: Phase, files: Sequence[ExportFile], runs: int, flags: tuple[bool, bool], code: str
) -> None:
    found = "ok"
    try:
        check_destroyable(replace(DONE, phase=phase), files, runs, despite_runs=flags[0], without_download=flags[1])
    except SuiteError as error:
        found = error.code
    assert found == code


def test_what_came_after_the_export_is_said() -> None:
    counts = {"sync": {"record": 5, "run": 0, "audit": 9}, "alerts": {"alert": 1}}
    assert since_export([FILE], counts) == {"alerts/alert.ndjson": 1, "sync/record.ndjson": 3}
