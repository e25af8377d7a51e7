"""HTTP of sync: a file per resource."""

from __future__ import annotations

from fastapi import APIRouter

from common.models.clock import Clock, Ids
from common.runtime.idempotency import IdempotentRoute
from sync.api import mappings, records, runs, schedules, value_maps
from sync.api.change_records import covered_by
from sync.ports import (
    ChangeRecords,
    Integrations,
    QuarantineList,
    RecordReader,
    RunBook,
    RunList,
    ScheduleBook,
    Transactions,
)
from sync.use_cases.edit_mapping import EditMapping
from sync.use_cases.edit_value_map import EditValueMap
from sync.use_cases.start_run import StartRun


def router(
    *,
    transactions: Transactions,
    integrations: Integrations,
    run_book: RunBook,
    run_list: RunList,
    reader: RecordReader,
    quarantine: QuarantineList,
    schedule_book: ScheduleBook,
    start_run: StartRun,
    edit_mapping: EditMapping,
    change_records: ChangeRecords,
    clock: Clock,
    ids: Ids,
) -> APIRouter:
    """The routes; paths begin after /sync/v1."""
    api = APIRouter(route_class=IdempotentRoute, tags=["sync"])
    runs.add_routes(api, transactions, run_book, run_list, start_run, clock)
    records.add_routes(api, reader, quarantine)
    schedules.add_routes(api, schedule_book, integrations, clock, ids)
    covered = covered_by(change_records)
    mappings.add_routes(api, edit_mapping, integrations, covered)
    value_maps.add_routes(api, EditValueMap(edit_mapping.book), integrations, covered)
    return api
