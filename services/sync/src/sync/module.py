"""Wiring of sync."""

from __future__ import annotations

from pathlib import Path

from common.runtime.background import background
from common.runtime.leases import Leases
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.runtime.settings import load
from sync.access import ACCESS
from sync.adapters.change_records import PeerChangeRecords
from sync.adapters.hl7_messages import PeerMessages
from sync.adapters.mapping_store import SqlMappingStore
from sync.adapters.pms_client import HttpPms
from sync.adapters.quarantine_store import SqlQuarantineStore
from sync.adapters.record_store import SqlRecordStore
from sync.adapters.run_store import SqlRunStore
from sync.adapters.schedule_store import SqlScheduleStore
from sync.adapters.tables import Base
from sync.adapters.tenant_parts import tenant_parts
from sync.api import router
from sync.consumers import subscriptions
from sync.settings import SyncSettings
from sync.use_cases.apply_messages import ApplyMessages
from sync.use_cases.edit_mapping import EditMapping
from sync.use_cases.fetch_page import FetchPage
from sync.use_cases.load_mapper import LoadMapper
from sync.use_cases.start_run import StartRun
from sync.use_cases.synchronise import Synchronise
from sync.use_cases.tick_schedules import TickSchedules
from sync.use_cases.work_runs import WorkRuns

NAME = "sync"


def _pms(runtime: Runtime, settings: SyncSettings) -> HttpPms:
    return HttpPms(
        runtime.outbound,
        runtime.peers,
        runtime.clock,
        runtime.ids,
        timeout_s=settings.request_timeout_s,
        wait_s_max=settings.retry_wait_s_max,
    )


def build(runtime: Runtime) -> Module:
    """The sync module on a runtime."""
    settings = load(SyncSettings)
    clock, ids, directory = runtime.clock, runtime.ids, runtime.directory
    database = runtime.database(NAME, Base.metadata, Path(__file__).parent / "migrations")
    leases = Leases(database, clock, ids)
    records = SqlRecordStore(database, clock, ids, runtime.source(NAME))
    runs = SqlRunStore(database, clock, ids, runtime.source(NAME))
    quarantine = SqlQuarantineStore(database, runtime.keyring, clock, ids)
    schedules = SqlScheduleStore(database, clock)
    mappings = SqlMappingStore(database, clock)
    load_mapper = LoadMapper(mappings)
    fetch_page = FetchPage(_pms(runtime, settings), runs, records, settings.page_records_max, load_mapper)
    synchronise = Synchronise(
        transactions=database,
        leases=leases,
        integrations=directory,
        runs=runs,
        records=records,
        quarantine=quarantine,
        fetch_page=fetch_page,
        mappings=mappings,
        clock=clock,
        ids=ids,
        look_every_s=settings.poll_every_s,
    )
    work_runs = WorkRuns(
        runs=runs,
        leases=leases,
        integrations=directory,
        synchronise=synchronise,
        lease_s=settings.run_lease_s,
        at_once_max=settings.runs_at_once_max,
        look_every_s=settings.poll_every_s,
    )
    start_run = StartRun(directory, runs, clock, ids, work_runs.wake.set)
    tick_schedules = TickSchedules(schedules, database, start_run, clock, settings.poll_every_s)

    async def ticking() -> None:
        """On one replica at a time."""
        await leases.run_while_held("sync.schedules", tick_schedules)

    return Module(
        name=NAME,
        prefix="/sync",
        router=router(
            transactions=database,
            integrations=directory,
            run_book=runs,
            run_list=runs,
            reader=records,
            quarantine=quarantine,
            schedule_book=schedules,
            start_run=start_run,
            edit_mapping=EditMapping(mappings, load_mapper, fetch_page, records, clock),
            change_records=PeerChangeRecords(runtime.peers),
            clock=clock,
            ids=ids,
        ),
        access=ACCESS,
        database=database,
        subscriptions=subscriptions(
            ApplyMessages(PeerMessages(runtime.peers), directory, records, quarantine, clock, ids)
        ),
        lifespan=lambda: background(NAME, work_runs, ticking),
        tenant_parts=tenant_parts(runtime.keyring),
        stream_topics=("ps.sync.run.v1", "ps.record.changed.v1"),
    )
