"""What the use cases of sync need from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from common.models.integration import Channel, Integration
from common.models.paging import Page
from common.runtime.authentication import Caller
from pms.fhir import Bundle, FhirRequest
from sync.core.hl7_reading import Message
from sync.core.incoming import Incoming, Origin
from sync.core.mapping.saved import SavedVersion, UnmappedValue
from sync.core.mapping.value_map import Unmapped
from sync.core.reconcile import Wanted
from sync.core.register import Register
from sync.core.rejection import Rejection
from sync.core.run import Resource, Run
from sync.core.run_state import RunEvent, RunState
from sync.core.schedule import Schedule

Session = Any
"""A transaction of the store."""


class Transactions(Protocol):
    """Where sessions come from."""

    def write(self) -> AbstractAsyncContextManager[Any]:
        """A transaction that commits at its end."""


class LeaseBook(Protocol):
    """Who works on what."""

    def hold(self, name: str, *, ttl_s: float) -> AbstractAsyncContextManager[Any]:
        """The lease while the block runs, None when another holds it."""

    async def check(self, session: Session, lease: Any) -> None:
        """Inside a transaction; raises SuiteError `lease.lost`."""


class Integrations(Protocol):
    """The read copy of integrations."""

    async def get(self, tenant: str, integration_id: str) -> Integration:
        """Raises SuiteError `integration.not-found`, or `service.unavailable` when there is no copy yet."""


class Pms(Protocol):
    """The practice-management system's FHIR API."""

    async def search(self, integration: Integration, channel: Channel, request: FhirRequest) -> Bundle:
        """The first page of a search. Raises SuiteError `peer.*` or `credential.*` once retries are used up."""

    async def follow(self, integration: Integration, channel: Channel, link: str, operation: str) -> Bundle:
        """The page that a `next` link leads to; errors as in `search`."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """An HL7 message as hl7-gateway stored it."""

    id: str
    channel: str
    message_type: str
    trigger_event: str
    received_at: datetime
    body: bytes
    encoding: str | None = None
    """What it is in where its MSH-18 says nothing, a value of MSH-18; None: nobody says."""


class Messages(Protocol):
    """hl7-gateway's message store."""

    async def read(self, tenant: str, ids: Sequence[str]) -> Mapping[str, RawMessage]:
        """Bodies by id; what no longer exists is missing. Raises SuiteError `service.unavailable`."""

    def parse(self, message: RawMessage) -> Message:
        """Raises SuiteError `hl7.unparsable`."""


class RecordBook(Protocol):
    """Records, versions, identifiers and cross-references."""

    async def lock(self, session: Session, tenant: str) -> None:
        """One reconciliation at a time per tenant, until the session ends."""

    async def load(self, session: Session, tenant: str, wanted: Wanted) -> Register:
        """Everything that the wanted cross-references and identifiers lead to, in a few statements."""

    async def save(self, session: Session, tenant: str, register: Register) -> None:
        """Store what the register changed, and tell of it (`ps.record.changed`), in a few statements."""

    async def unlinked(self, tenant: str, integration_id: str, record_type: str, ids: Collection[str]) -> set[str]:
        """Those external ids that have no cross-reference."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that was not taken. `source_key` finds it again when it comes again: an external id or a message id."""

    integration_id: str
    record_type: str
    origin: Origin
    source_id: str
    source_key: str
    position: int
    rejection: Rejection
    body: bytes


class QuarantineBook(Protocol):
    """Rows that were not taken, their bodies sealed."""

    async def put(self, session: Session, tenant: str, rows: Sequence[Quarantined]) -> None:
        """Keep them; the same row again replaces itself and is counted."""

    async def resolve(self, session: Session, tenant: str, taken: Sequence[Incoming]) -> None:
        """Rows of these sources were taken now: what was kept of them is done with."""


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """What may be listed of a quarantined row: never its body."""

    id: str
    integration_id: str
    record_type: str
    origin: str
    source_id: str
    position: int
    code: str
    rule: str
    value_class: str
    state: str
    times: int
    created_at: datetime
    updated_at: datetime


class QuarantineList(Protocol):
    """What the API reads of the quarantine."""

    async def list(
        self, tenant: str, integration_id: str | None, state: str | None, cursor: str | None, limit: int
    ) -> Page[QuarantineRow]:
        """Newest first."""


class RunBook(Protocol):
    """Runs; at most one of them lives per integration, resource and direction."""

    async def add(self, session: Session, run: Run) -> str | None:
        """Insert a queued run; the id of the one that lives already when there is one (then nothing was inserted)."""

    async def get(self, tenant: str, run_id: str) -> Run:
        """Raises SuiteError `run.not-found`."""

    async def live(self, limit: int) -> Sequence[Run]:
        """Runs of all tenants that have not ended, oldest first."""

    async def save(self, session: Session, run: Run, event: RunEvent | None) -> None:
        """Update it, and tell of the event (None: nobody is told)."""

    async def reload(self, session: Session, run_id: str) -> Run:
        """The run as it is inside this transaction, and stays until it ends."""

    async def request_cancel(self, session: Session, run_id: str) -> None:
        """Ask whoever works on it to stop."""

    async def first_time(self, session: Session, run_id: str, keys: Sequence[str]) -> bool:
        """Note keys (of links, pages, ids) for this run; False when one of them was noted before."""

    async def seen(self, run_id: str, keys: Collection[str]) -> set[str]:
        """Those keys that were noted."""

    async def forget_seen(self, session: Session, run_id: str) -> None:
        """The run ended: its keys are of no more use."""


class RunList(Protocol):
    """What the API reads of runs."""

    async def get(self, tenant: str, run_id: str) -> Run:
        """Raises SuiteError `run.not-found`."""

    async def list(
        self, tenant: str, integration_id: str | None, resource: Resource | None, state: RunState | None,
        cursor: str | None, limit: int,
    ) -> Page[Run]:  # fmt: skip
        """Newest first."""


class ScheduleBook(Protocol):
    """Schedules."""

    async def add(self, caller: Caller, schedule: Schedule) -> None:
        """Raises SuiteError `request.conflict` when the integration has the same one already."""

    async def get(self, tenant: str, schedule_id: str) -> Schedule:
        """Raises SuiteError `schedule.not-found`."""

    async def list(self, tenant: str, integration_id: str | None, cursor: str | None, limit: int) -> Page[Schedule]:
        """By time of creation."""

    async def change(self, caller: Caller, schedule: Schedule, changed: Mapping[str, Any]) -> Schedule:
        """Raises SuiteError `request.version-changed` when somebody was quicker."""

    async def remove(self, caller: Caller, schedule_id: str) -> None:
        """Raises SuiteError `schedule.not-found`."""


class DueSchedules(Protocol):
    """What the ticker needs of schedules."""

    async def due(self, now: datetime, limit: int) -> Sequence[Schedule]:
        """Enabled schedules of all tenants whose time has come."""

    async def ticked(self, session: Session, schedule: Schedule, due_at: datetime, run_id: str | None) -> None:
        """Keep when it is due next, and the run that it started (None: none)."""


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """A search: all that is given must hold. `name` is a prefix, `updated_after` exclusive."""

    name: str | None = None
    birth_date: str | None = None
    identifier_system: str | None = None
    identifier_value: str | None = None
    updated_after: datetime | None = None


class RecordReader(Protocol):
    """What the API reads of records; reading is audited."""

    async def counts(self, tenant: str) -> Mapping[str, int]:
        """How many records there are per type."""

    async def search(
        self, caller: Caller, record_type: str, query: RecordQuery, cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        """Records in the order of their ids, or of their last change when `updated_after` is given."""

    async def get(self, caller: Caller, record_type: str, record_id: str) -> Mapping[str, Any]:
        """Raises SuiteError `record.not-found`."""

    async def versions(
        self, caller: Caller, record_type: str, record_id: str, cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        """Newest first; raises SuiteError `record.not-found`."""

    async def cross_references(
        self, caller: Caller, wanted: Mapping[str, str], cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        """By id; `wanted` holds exact values of integration_id, record_type, external_id, record_id."""


class ChangeRecords(Protocol):
    """Change Management of auth-gateway."""

    async def require(self, tenant: str, integration_id: str, change_id: str | None) -> None:
        """Returns when the integration wants no change record, or this one covers a change now.

        Raises SuiteError `change.required`, `integration.not-found` or `service.unavailable`.
        """


class MappingBook(Protocol):
    """Field mappings and value maps in versions (`subject`: see core.mapping.saved), and values without a mapping."""

    async def current_versions(self, tenant: str, integration_id: str) -> Mapping[str, int]:
        """The newest version by subject; what was never saved is missing."""

    async def get(
        self, tenant: str, integration_id: str, subject: str, version: int | None = None
    ) -> SavedVersion | None:
        """A version, the newest without a number; None when there is none."""

    async def versions(self, tenant: str, integration_id: str, subject: str) -> Sequence[SavedVersion]:
        """Newest first."""

    async def save(
        self, caller: Caller, integration_id: str, subject: str, after: int, content: Sequence[Mapping[str, Any]],
        note: str, restored_from: int | None = None,
    ) -> SavedVersion:  # fmt: skip
        """The version that follows `after` (0: the first). Raises SuiteError `request.version-changed`."""

    async def count_unmapped(
        self, session: Session, tenant: str, integration_id: str, found: Mapping[str, Unmapped]
    ) -> None:
        """Count values without a mapping, by the kind of value map, in the caller's transaction."""

    async def unmapped(self, tenant: str, integration_id: str, kind: str) -> Sequence[UnmappedValue]:
        """The most frequent first."""
