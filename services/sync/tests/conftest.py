"""What sync's tests share: a PMS in memory, integrations, and sync's stores and use cases on a real database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from common.models.clock import FixedClock
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.identifier_systems import IdentifierSystem
from common.models.identifiers import type_id, uuid7
from common.models.integration import (
    Channel,
    ChannelKind,
    Environment,
    Integration,
    IntegrationState,
    Vendor,
    WriteBack,
)
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.event_text import parse_event
from common.runtime.keyring import StaticKeyRing
from common.runtime.leases import Leases
from common.runtime.system import SystemIds
from common.runtime.tables import OUTBOX
from common.testing import TENANT
from pms.fhir import Bundle, FhirRequest
from sync import module
from sync.adapters.mapping_store import SqlMappingStore
from sync.adapters.quarantine_store import SqlQuarantineStore
from sync.adapters.record_store import SqlRecordStore
from sync.adapters.run_store import SqlRunStore
from sync.adapters.schedule_store import SqlScheduleStore
from sync.adapters.tables import Base
from sync.core.hl7_message import parse
from sync.core.hl7_reading import Message
from sync.core.run import Mode, Resource, Run
from sync.ports import RawMessage, RecordQuery
from sync.use_cases.apply_messages import ApplyMessages
from sync.use_cases.end_run import cancel_run
from sync.use_cases.fetch_page import FetchPage
from sync.use_cases.load_mapper import LoadMapper
from sync.use_cases.start_run import StartRun
from sync.use_cases.synchronise import Synchronise
from sync.use_cases.tick_schedules import TickSchedules
from sync.use_cases.work_runs import WorkRuns

AT = datetime(2026, 3, 1, 15, 30, tzinfo=UTC)
INTEGRATION_ID = type_id("int", uuid7(1_700_000_000_000, 1))
MRN = "urn:oid:1.2.3"
CSN = "urn:oid:1.2.4"
CALLER = Caller(TENANT, "tester", frozenset())
WAIT_S = 10.0


def integration(vendor: Vendor = Vendor.EPIC, endpoint: str = "https://pms.test/R4") -> Integration:
    channels = {
        "fhir": Channel("fhir", ChannelKind.FHIR, endpoint, "America/Chicago", "api"),
        "hl7-in": Channel("hl7-in", ChannelKind.HL7V2_IN, "", "America/Chicago"),
    }
    systems = (IdentifierSystem("EPIC", MRN), IdentifierSystem("EPC", CSN))
    return Integration(
        INTEGRATION_ID, TENANT, "Epic", vendor, "Epic", Environment.TEST, IntegrationState.ACTIVE, WriteBack.OFF, 1,
        systems, channels,
    )  # fmt: skip


class Directory:
    """`Integrations`, with one that a test can pause."""

    def __init__(self) -> None:
        self.known: dict[str, Integration] = {INTEGRATION_ID: integration()}

    async def get(self, tenant: str, integration_id: str) -> Integration:
        found = self.known.get(integration_id)
        if found is None or found.tenant != tenant:
            raise SuiteError("integration.not-found")
        return found

    def set_state(self, state: IntegrationState) -> None:
        self.known[INTEGRATION_ID] = replace(self.known[INTEGRATION_ID], state=state)


def patient(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"p{number}",
        "identifier": [{"system": MRN, "value": str(4000 + number)}],
        "name": [{"family": f"Núñez{number}", "given": ["Ana"]}],
        "birthDate": "1970-05-17",
        **fields,
    }


def appointment(number: int, patient_number: int, **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "Appointment",
        "id": f"a{number}",
        "identifier": [{"system": CSN, "value": str(7000 + number)}],
        "status": "booked",
        "start": "2026-03-02T15:00:00Z",
        "end": "2026-03-02T15:15:00Z",
        "participant": [{"actor": {"reference": f"Patient/p{patient_number}"}, "status": "accepted"}],
        **fields,
    }


@dataclass
class MemoryPms:
    """`Pms`: each window gives the same pages of appointments in the first window, none in the others.

    `before` is called with every request, so that a test can stop, fail or change the world there.
    """

    patients: dict[str, dict[str, Any]] = field(default_factory=dict)
    pages: list[list[dict[str, Any]]] = field(default_factory=list)
    links: dict[int, str | None] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    before: Callable[[str], Awaitable[None]] | None = None
    windows: list[str] = field(default_factory=list)

    async def search(self, _: Integration, __: Channel, request: FhirRequest) -> Bundle:
        query = dict(request.query)
        if "_id" in query:
            await self._asked(f"Patient {query['_id']}")
            return self._bundle([self.patients[one] for one in query["_id"].split(",") if one in self.patients], None)
        start = request.query[0][1]
        if start not in self.windows:
            self.windows.append(start)
        if self.windows.index(start) > 0:
            await self._asked(f"window {start}")
            return self._bundle([], None)
        return await self._page(0)

    async def follow(self, _: Integration, __: Channel, link: str, ___: str) -> Bundle:
        return await self._page(int(link.removeprefix("next:")))

    async def _page(self, number: int) -> Bundle:
        await self._asked(f"page {number}")
        following = f"next:{number + 1}" if number + 1 < len(self.pages) else None
        return self._bundle(self.pages[number] if self.pages else [], self.links.get(number, following))

    async def _asked(self, request: str) -> None:
        self.requests.append(request)
        if self.before is not None:
            await self.before(request)

    def _bundle(self, matches: Sequence[dict[str, Any]], link: str | None) -> Bundle:
        return Bundle(tuple(matches), (), (), link, len(matches))

    def appointment_requests(self) -> list[str]:
        return [request for request in self.requests if request.startswith("page")]


class MemoryMessages:
    """`Messages`: bodies by id."""

    def __init__(self) -> None:
        self.bodies: dict[str, RawMessage] = {}
        self.failure: SuiteError | None = None

    async def read(self, _: str, ids: Sequence[str]) -> dict[str, RawMessage]:
        if self.failure is not None:
            raise self.failure
        return {one: self.bodies[one] for one in ids if one in self.bodies}

    def parse(self, message: RawMessage) -> Message:
        try:
            return parse(message.body, message.encoding)
        except ValueError as error:
            raise SuiteError("hl7.unparsable") from error


class House:
    """Sync without HTTP and bus: real stores, a PMS in memory. A second house on the same database is a replica."""

    def __init__(self, database: Database, pms: MemoryPms, directory: Directory, clock: FixedClock) -> None:
        ids = SystemIds()
        self.database, self.pms, self.directory, self.clock, self.ids = database, pms, directory, clock, ids
        self.leases = Leases(database, clock, ids)
        self.records = SqlRecordStore(database, clock, ids, "/sync/test")
        self.runs = SqlRunStore(database, clock, ids, "/sync/test")
        self.quarantine = SqlQuarantineStore(database, StaticKeyRing(), clock, ids)
        self.schedules = SqlScheduleStore(database, clock)
        self.messages = MemoryMessages()
        self.mappings = SqlMappingStore(database, clock)
        self.load_mapper = LoadMapper(self.mappings)
        synchronise = Synchronise(
            transactions=database,
            leases=self.leases,
            integrations=directory,
            runs=self.runs,
            records=self.records,
            quarantine=self.quarantine,
            fetch_page=FetchPage(pms, self.runs, self.records, 100, self.load_mapper),
            mappings=self.mappings,
            clock=clock,
            ids=ids,
            look_every_s=0.01,
        )
        self.work = WorkRuns(
            runs=self.runs,
            leases=self.leases,
            integrations=directory,
            synchronise=synchronise,
            lease_s=5.0,
            at_once_max=4,
            look_every_s=0.01,
        )
        self.start_run = StartRun(directory, self.runs, clock, ids, self.work.wake.set)
        self.tick = TickSchedules(self.schedules, database, self.start_run, clock, 1.0)
        self.apply = ApplyMessages(self.messages, directory, self.records, self.quarantine, clock, ids)

    async def queue(self, resource: Resource = Resource.PATIENT, mode: Mode = Mode.FULL) -> Run:
        found = await self.start_run.check(TENANT, INTEGRATION_ID, resource)
        async with self.database.write() as session:
            return await self.start_run.queue(session, found, resource, mode, trigger="api", by="tester")

    async def run(self, resource: Resource = Resource.PATIENT, mode: Mode = Mode.FULL) -> Run:
        """Queue a run and work until nothing is in hand."""
        self.clock.advance(1.0)
        queued = await self.queue(resource, mode)
        await self.work.look()
        await self.work.settle()
        return await self.get(queued)

    async def get(self, run: Run) -> Run:
        return await self.runs.get(TENANT, run.id)

    async def cancel(self, run: Run) -> Run:
        async with self.database.write() as session:
            return await cancel_run(session, run.id, runs=self.runs, clock=self.clock)

    async def find(self, record_type: str = "patient", **query: Any) -> list[dict[str, Any]]:
        page = await self.records.search(CALLER, record_type, RecordQuery(**query), None, 500)
        return [dict(item) for item in page.items]

    async def quarantined(self) -> list[tuple[str, str, str, str]]:
        page = await self.quarantine.list(TENANT, None, None, None, 100)
        return sorted((row.record_type, row.code, row.rule, row.state) for row in page.items)

    async def told(self, prefix: str = "ps.") -> list[Event]:
        async with self.database.read() as session:
            rows = (await session.execute(select(OUTBOX.c.event).order_by(OUTBOX.c.id))).scalars().all()
        return [event for event in map(parse_event, rows) if event.type.startswith(prefix)]

    async def receive(self, *messages: tuple[str, str], minutes: int = 0) -> list[Event]:
        """Apply messages (kind such as ADT^A08, segments after MSH) as one batch; each says when it was written."""
        events = []
        for kind, segments in messages:
            message_id, (message_type, trigger) = self.ids.new("msg"), kind.split("^")
            written = f"2026030109{minutes:02d}00-0600"
            body = f"MSH|^~\\&|EPIC|DEMO|PS|HERE|{written}||{kind}|1|P|2.5.1|||||||UNICODE UTF-8\r{segments}\r".encode()
            self.messages.bodies[message_id] = RawMessage(message_id, "hl7-in", message_type, trigger, AT, body)
            events.append(self.event(message_id, message_type, trigger))
        await self.handle(events)
        return events

    async def handle(self, events: Sequence[Event]) -> None:
        async with self.database.write() as session:
            await self.apply(session, events)

    def event(self, message_id: str, message_type: str, trigger: str, **changed: Any) -> Event:
        data = {
            "message_id": message_id,
            "integration_id": INTEGRATION_ID,
            "channel": "hl7-in",
            "message_type": message_type,
            "trigger_event": trigger,
            **changed,
        }
        return Event(self.ids.new("evt"), "ps.hl7.received", "/hl7-gateway/1", message_id, AT, TENANT, "key", data)


def pid(number: int, rest: str = "") -> str:
    return f"PID|1||{4000 + number}^^^EPIC||{rest}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Database]:
    """Makes databases that are one and the same place: several are several replicas."""
    url = f"sqlite:///{tmp_path}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    name = f"sync-{secrets.token_hex(6)}"
    migrations = Path(module.__file__).parent / "migrations"
    return lambda: Database(url, name, Base.metadata, migrations)


@pytest.fixture
async def database(new_database: Callable[[], Database]) -> AsyncIterator[Database]:
    opened = new_database()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def house(database: Database) -> House:
    """Sync on a database, with five patients on two pages of appointments."""
    pms = MemoryPms(
        {f"p{number}": patient(number) for number in range(5)},
        [[appointment(number, number) for number in range(3)], [appointment(number, number) for number in range(3, 5)]],
    )
    return House(database, pms, Directory(), FixedClock(AT))


@pytest.fixture
def replica(house: House, new_database: Callable[[], Database]) -> Any:
    """Another process on the same database and the same PMS, as an async context manager."""

    @asynccontextmanager
    async def other() -> AsyncIterator[House]:
        database = new_database()
        await database.open()
        try:
            yield House(database, house.pms, house.directory, house.clock)
        finally:
            await database.close()

    return other


@pytest.fixture
def make() -> Any:
    """Builders of resources and segments."""

    class Make:
        patient = staticmethod(patient)
        appointment = staticmethod(appointment)
        pid = staticmethod(pid)
        integration = staticmethod(integration)

    return Make


@pytest.fixture
def wait_for() -> Any:
    """Waits for an event, with a bound."""

    async def wait(event: asyncio.Event) -> None:
        async with asyncio.timeout(WAIT_S):
            await event.wait()

    return wait
