"""Work on one run, page by page: fetch and map outside, then everything of the page in one transaction.

records, versions, identifiers, cross-references, quarantine, counters, cursor and events are one commit, under a lease
whose fencing number is checked in it. So a process that dies loses at most the page in its hands, and one that was
only thought dead can not write any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from common.models.clock import Clock, Ids
from common.models.errors import ERRORS, SuiteError
from common.models.integration import Channel, ChannelKind, Integration, IntegrationState
from sync.core.incoming import Origin
from sync.core.page import PAGES_PER_WINDOW_MAX, advanced
from sync.core.reconcile import reconcile, wanted_of
from sync.core.register import Register
from sync.core.run import Run, RunCursor
from sync.core.run_state import RunEvent, after
from sync.ports import (
    Integrations,
    LeaseBook,
    MappingBook,
    QuarantineBook,
    Quarantined,
    RecordBook,
    RunBook,
    Session,
    Transactions,
)
from sync.use_cases.end_run import end_run
from sync.use_cases.fetch_page import FetchedPage, FetchPage

_NO_PROGRESS: Final = "run.no-progress"
# Not the run's failure: whoever takes it next goes on from its cursor.
_LEAVES_RUN: Final = frozenset({"database.unavailable", "lease.lost"})
_log = logging.getLogger("sync")


@dataclass(frozen=True, slots=True)
class Synchronise:
    """See the module's text."""

    transactions: Transactions
    leases: LeaseBook
    integrations: Integrations
    runs: RunBook
    records: RecordBook
    quarantine: QuarantineBook
    fetch_page: FetchPage
    mappings: MappingBook
    clock: Clock
    ids: Ids
    look_every_s: float
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __call__(self, run: Run, lease: Any) -> None:
        """Work until the run ends, is paused, or is to be left to another replica.

        Raises SuiteError `database.unavailable` or `lease.lost`: then it goes on later, from its cursor.
        """
        try:
            await self._work(run, lease)
        except SuiteError as error:
            if error.code in _LEAVES_RUN:
                raise
            await self._fail(run, lease, error.code)
        except Exception:  # noqa: BLE001 - a mistake of ours ends this run, named and logged; the others go on
            _log.exception("run failed unexpectedly", extra={"run_id": run.id, "code": "internal.error"})
            await self._fail(run, lease, "internal.error")

    async def _work(self, run: Run, lease: Any) -> None:
        integration = await self.integrations.get(run.tenant, run.integration_id)
        channel = _channel(integration)
        run = await self._begin(run, lease, channel)
        while True:
            stopped = await self._stopped(run)
            if stopped is None:
                fetching = asyncio.create_task(self._fetch(run, integration, channel), name=f"page-{run.id}")
                stopped = await self._unless_stopped(fetching, run, lease)
                if stopped is None:
                    following = await self._commit_page(run, lease, fetching.result())
                    if following is None:
                        return
                    run = following
                    integration = await self.integrations.get(run.tenant, run.integration_id)
                    channel = _channel(integration)
                    continue
            await self._stop(run, lease, stopped)
            return

    async def _begin(self, run: Run, lease: Any, channel: Channel) -> Run:
        async with self.transactions.write() as session:
            await self.leases.check(session, lease)
            run = await self.runs.reload(session, run.id)
            now = self.clock.now()
            first_time = run.started_at is None
            run = replace(
                run,
                state=after(run.state, RunEvent.BEGIN),
                cursor=run.cursor or RunCursor(now.astimezone(ZoneInfo(channel.time_zone)).date()),
                started_at=run.started_at or now,
                updated_at=now,
            )
            await self.runs.save(session, run, RunEvent.BEGIN if first_time else None)
        return run

    async def _fetch(self, run: Run, integration: Integration, channel: Channel) -> FetchedPage:
        assert run.cursor is not None
        if run.cursor.window_pages >= PAGES_PER_WINDOW_MAX:
            raise SuiteError(_NO_PROGRESS)
        return await self.fetch_page(run, run.cursor, integration, channel)

    async def _unless_stopped(self, fetching: asyncio.Task[FetchedPage], run: Run, lease: Any) -> RunEvent | None:
        """None when the page is there; else why the run has to stop (fetching is given up: it changed nothing)."""
        watching = asyncio.create_task(self._until_stopped(run), name=f"watch-{run.id}")
        losing = asyncio.create_task(lease.lost.wait(), name=f"lease-{run.id}")
        tasks: set[asyncio.Task[Any]] = {fetching, watching, losing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
                return None
            if losing.done():
                raise SuiteError("lease.lost")
            return watching.result()
        finally:
            waiting = [task for task in tasks if not task.done()]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _until_stopped(self, run: Run) -> RunEvent:
        while True:
            await self.pause(self.look_every_s)
            stopped = await self._stopped(run)
            if stopped is not None:
                return stopped

    async def _stopped(self, run: Run) -> RunEvent | None:
        if (await self.runs.get(run.tenant, run.id)).cancel_requested:
            return RunEvent.CANCEL
        integration = await self.integrations.get(run.tenant, run.integration_id)
        return None if integration.state is IntegrationState.ACTIVE else RunEvent.PAUSE

    async def _stop(self, run: Run, lease: Any, event: RunEvent) -> None:
        async with self.transactions.write() as session:
            await self.leases.check(session, lease)
            run = replace(run, state=after(run.state, event), updated_at=self.clock.now())
            if event is RunEvent.CANCEL:
                await end_run(session, run, event, runs=self.runs, clock=self.clock)
            else:
                await self.runs.save(session, run, event)

    async def _commit_page(self, run: Run, lease: Any, page: FetchedPage) -> Run | None:
        """The page in one transaction; the run behind it, None when it ended."""
        before = run.cursor
        assert before is not None
        async with self.transactions.write() as session:
            await self.leases.check(session, lease)
            if not await self.runs.first_time(session, run.id, page.once):
                # Of this transaction nothing is kept but the run's end.
                await end_run(session, _failed(run, _NO_PROGRESS), RunEvent.FAIL, runs=self.runs, clock=self.clock)
                return None
            await self.runs.first_time(session, run.id, page.asked)
            register = await self._apply(session, run, page)
            run = _counted(run, page, register)
            cursor = advanced(run, before, page.next_link)
            now = self.clock.now()
            progressed = replace(run, cursor=cursor or before, state=after(run.state, RunEvent.PAGE), updated_at=now)
            await self.runs.save(session, progressed, RunEvent.PAGE)
            if cursor is not None:
                return progressed
            finished = replace(progressed, state=after(progressed.state, RunEvent.FINISH))
            await end_run(session, finished, RunEvent.FINISH, runs=self.runs, clock=self.clock)
            return None

    async def _apply(self, session: Session, run: Run, page: FetchedPage) -> Register:
        await self.records.lock(session, run.tenant)
        register = await self.records.load(session, run.tenant, wanted_of(page.incoming))
        reconcile(register, page.incoming, self.ids.new)
        await self.records.save(session, run.tenant, register)
        rejected = [(row.position, row.record.TYPE, row.external_id, why) for row, why in register.rejected]
        rows = [
            Quarantined(
                integration_id=run.integration_id,
                record_type=record_type,
                origin=Origin.FHIR,
                source_id=run.id,
                # A resource without an id is known by its place in the run.
                source_key=external_id or f"{run.id}:{run.pages}:{position}",
                position=position,
                rejection=why,
                body=json.dumps(page.resources[position]).encode(),
            )
            for position, record_type, external_id, why in (*page.unmapped, *rejected)
        ]
        await self.quarantine.put(session, run.tenant, rows)
        await self.mappings.count_unmapped(session, run.tenant, run.integration_id, page.values)
        await self.quarantine.resolve(session, run.tenant, register.accepted)
        return register

    async def _fail(self, run: Run, lease: Any, code: str) -> None:
        async with self.transactions.write() as session:
            await self.leases.check(session, lease)
            run = await self.runs.reload(session, run.id)
            await end_run(session, _failed(run, code), RunEvent.FAIL, runs=self.runs, clock=self.clock)
        named = {"run_id": run.id, "integration_id": run.integration_id, "resource": run.resource.value, "code": code}
        _log.warning("run failed", extra={**named, "fault": ERRORS[code].fault.value})


def _channel(integration: Integration) -> Channel:
    channel = integration.channel_of(ChannelKind.FHIR)
    if channel is None:
        raise SuiteError("channel.not-found", "The integration has no channel of the kind fhir.")
    return channel


def _failed(run: Run, code: str) -> Run:
    return replace(run, state=after(run.state, RunEvent.FAIL), error_code=code)


def _counted(run: Run, page: FetchedPage, register: Register) -> Run:
    counts = register.counts
    return replace(
        run,
        pages=run.pages + 1,
        records_read=run.records_read + len(page.resources),
        created=run.created + counts.created,
        updated=run.updated + counts.updated,
        unchanged=run.unchanged + counts.unchanged + counts.stale,
        quarantined=run.quarantined + len(page.unmapped) + len(register.rejected),
    )
