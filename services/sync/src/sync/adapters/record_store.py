"""Records, versions, identifiers, names and cross-references in the database: a few statements per page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Row, Select, Table, bindparam, delete, false, func, insert, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.paging import Page, decode_cursor, encode_cursor
from common.models.records import RECORD_TYPES, Patient, record_of
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent
from sync.adapters.tables import CROSS_REFERENCE, EVENT_TIME, IDENTIFIER, NAME, RECORD, REFERENCE, VERSION
from sync.core.fingerprint import seen_of_json
from sync.core.reconcile import Wanted
from sync.core.register import Key, Link, LinkKey, Register, Stored, Version, patient_references
from sync.core.search_key import name_keys, search_key
from sync.ports import RecordQuery

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_VALUES_PER_STATEMENT_MAX: Final = 500
_REFERRING: Final = frozenset({"participants", "subject"})
"""Fields that say whom a record concerns."""
_MERGES_IN_A_ROW_MAX: Final = 50
_LAST_CHARACTER: Final = "\U0010ffff"
T = TypeVar("T")


class SqlRecordStore:
    """`RecordBook` and `RecordReader`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, source: str) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._source = source

    async def lock(self, session: AsyncSession, tenant: str) -> None:
        """SQLite has one writer anyway; PostgreSQL waits here, so that two roads never make one patient twice."""
        if self._database.dialect == "postgresql":
            await session.execute(_LOCK, {"name": f"practice-studio:records:{tenant}"})

    async def load(self, session: AsyncSession, tenant: str, wanted: Wanted) -> Register:
        register = Register(
            links=await _links(session, tenant, wanted.links), owners=await _owners(session, tenant, wanted.owners)
        )
        record_ids = {link.record_id for link in register.links.values()} | set(register.owners.values())
        merged = {register.owners[key] for key in wanted.retired if key in register.owners}
        record_ids |= await _referring(session, tenant, merged)
        await _load_records(session, register, record_ids)
        for part in _parts(register.records):
            known = select(CROSS_REFERENCE.c.integration_id, CROSS_REFERENCE.c.record_id)
            of_tenant = known.where(CROSS_REFERENCE.c.tenant == tenant)
            for row in await session.execute(of_tenant.where(CROSS_REFERENCE.c.record_id.in_(part))):
                register.linked.add((row.integration_id, row.record_id))
            for row in await session.execute(select(EVENT_TIME).where(EVENT_TIME.c.record_id.in_(part))):
                register.event_times[row.integration_id, row.record_id] = row.event_time
        return register

    async def save(self, session: AsyncSession, tenant: str, register: Register) -> None:
        if register.versions:
            await self._save_records(session, tenant, register)
            await self._save_identifiers(session, tenant, register)
            await self._save_names(session, tenant, register)
            await self._save_references(session, tenant, register)
            await outbox.add(session, [self._event(tenant, version) for version in register.versions])
        await self._save_links(session, tenant, register)
        times = [
            {"tenant": tenant, "integration_id": integration_id, "record_id": record_id, "event_time": event_time}
            for (integration_id, record_id), event_time in register.event_times_changed.items()
        ]
        await self._upsert(session, EVENT_TIME, times, ("record_id", "integration_id"), ("event_time",))

    async def unlinked(self, tenant: str, integration_id: str, record_type: str, ids: Collection[str]) -> set[str]:
        wanted = frozenset((integration_id, record_type, external_id) for external_id in ids)
        async with self._database.read() as session:
            return set(ids) - {external_id for _, _, external_id in await _links(session, tenant, wanted)}

    async def _save_records(self, session: AsyncSession, tenant: str, register: Register) -> None:
        now = self._clock.now()
        versions = [
            {
                "record_id": version.record_id,
                "version": version.version,
                "tenant": tenant,
                "document": version.record.document(),
                "changed": list(version.changed),
                "origin": version.origin.value,
                "integration_id": version.integration_id,
                "source_id": version.source_id,
                "event_time": version.event_time,
                "created_at": now,
            }
            for version in register.versions
        ]
        await session.execute(insert(VERSION), versions)
        newest = {version.record_id: version for version in register.versions}
        rows = [
            {
                "id": version.record_id,
                "tenant": tenant,
                "record_type": version.record.TYPE,
                "version": version.version,
                "document": version.record.document(),
                "origin": version.origin.value,
                "integration_id": version.integration_id,
                "birth_date": version.record.birth_date if isinstance(version.record, Patient) else None,
                "created_at": now,
                "updated_at": now,
            }
            for version in newest.values()
        ]
        changed = ("version", "document", "origin", "integration_id", "birth_date", "updated_at")
        await self._upsert(session, RECORD, rows, ("id",), changed)

    async def _save_identifiers(self, session: AsyncSession, tenant: str, register: Register) -> None:
        removed = [
            {"gone_type": kind, "gone_system": system, "gone_value": value}
            for kind, system, value in sorted(register.owners_removed - register.owners_added.keys())
        ]
        if removed:
            gone = delete(IDENTIFIER).where(
                IDENTIFIER.c.tenant == tenant,
                IDENTIFIER.c.record_type == bindparam("gone_type"),
                IDENTIFIER.c.value == bindparam("gone_value"),
                IDENTIFIER.c.system == bindparam("gone_system"),
            )
            await session.execute(gone, removed)
        added = [
            {"tenant": tenant, "record_type": kind, "system": system, "value": value, "record_id": record_id}
            for (kind, system, value), record_id in register.owners_added.items()
        ]
        key = ("tenant", "record_type", "value", "system")
        await self._upsert(session, IDENTIFIER, added, key, ("record_id",))

    async def _save_names(self, session: AsyncSession, tenant: str, register: Register) -> None:
        renamed = {version.record_id for version in register.versions if "names" in version.changed}
        for part in _parts(renamed):
            await session.execute(delete(NAME).where(NAME.c.record_id.in_(part)))
        # The newest version counts, also when an earlier one of the batch changed the names.
        patients = [(record_id, register.records[record_id].record) for record_id in sorted(renamed)]
        rows = [
            {"tenant": tenant, "key": key, "record_id": record_id}
            for record_id, patient in patients
            if isinstance(patient, Patient)
            for key in sorted(name_keys(patient))
        ]
        if rows:
            await session.execute(insert(NAME), rows)

    async def _save_references(self, session: AsyncSession, tenant: str, register: Register) -> None:
        """Whom records concern; a row that holds no more is told by the record itself and does no harm."""
        found = {
            (reference.record_id, version.record_id)
            for version in register.versions
            if not _REFERRING.isdisjoint(version.changed)
            for reference in patient_references(version.record)
            if reference.record_id
        }
        rows = [{"tenant": tenant, "target_id": target, "record_id": record} for target, record in sorted(found)]
        if rows:
            await session.execute(self._database.insert(REFERENCE).on_conflict_do_nothing(), rows)

    async def _save_links(self, session: AsyncSession, tenant: str, register: Register) -> None:
        now = self._clock.now()
        rows = [
            {
                "id": link.id,
                "tenant": tenant,
                "integration_id": integration_id,
                "record_type": record_type,
                "external_id": external_id,
                "record_id": link.record_id,
                "content_hash": link.seen.content_hash,
                "seen": link.seen.as_json(),
                "created_at": now,
                "updated_at": now,
            }
            for (integration_id, record_type, external_id), link in register.links_changed.items()
        ]
        key = ("tenant", "integration_id", "record_type", "external_id")
        await self._upsert(session, CROSS_REFERENCE, rows, key, ("record_id", "content_hash", "seen", "updated_at"))

    async def _upsert(
        self,
        session: AsyncSession,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        key: Sequence[str],
        changed: Sequence[str],
    ) -> None:
        """One prepared statement for all rows."""
        if not rows:
            return
        statement = self._database.insert(table)
        update = {name: statement.excluded[name] for name in changed}
        await session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=update), list(rows))

    def _event(self, tenant: str, version: Version) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type="ps.record.changed",
            source=self._source,
            subject=version.record_id,
            time=self._clock.now(),
            tenant=tenant,
            key=version.record_id,
            data={
                "record_id": version.record_id,
                "record_type": version.record.TYPE,
                "version": version.version,
                "changed": list(version.changed),
                "origin": version.origin.value,
                "integration_id": version.integration_id,
                "deleted": False,
            },
            traceparent=current_traceparent(),
        )

    # ---- reading ----

    async def counts(self, tenant: str) -> Mapping[str, int]:
        statement = select(RECORD.c.record_type, func.count()).where(RECORD.c.tenant == tenant)
        async with self._database.read() as session:
            found = {row[0]: int(row[1]) for row in await session.execute(statement.group_by(RECORD.c.record_type))}
        return {name: found.get(name, 0) for name in RECORD_TYPES}

    async def search(
        self, caller: Caller, record_type: str, query: RecordQuery, cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        statement = search_statement(caller.tenant, record_type, query, cursor, limit)
        async with self._database.read() as session:
            rows = (await session.execute(statement)).all()
        items = [record_json(row) for row in rows[:limit]]
        await self._audit(caller, "record.searched", record_type, count=len(items))
        return Page(items, _cursor_of(rows[limit - 1], query) if len(rows) > limit else None)

    async def get(self, caller: Caller, record_type: str, record_id: str) -> Mapping[str, Any]:
        async with self._database.read() as session:
            row = await _record_row(session, caller.tenant, record_type, record_id)
        await self._audit(caller, "record.read", record_id, version=row.version)
        return record_json(row)

    async def versions(
        self, caller: Caller, record_type: str, record_id: str, cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        statement = select(VERSION).where(VERSION.c.record_id == record_id)
        if cursor is not None:
            statement = statement.where(VERSION.c.version < decode_cursor(cursor, (int,))[0])
        async with self._database.read() as session:
            await _record_row(session, caller.tenant, record_type, record_id)
            rows = (await session.execute(statement.order_by(VERSION.c.version.desc()).limit(limit + 1))).all()
        await self._audit(caller, "record.versions-read", record_id, count=min(len(rows), limit))
        following = encode_cursor([rows[limit - 1].version]) if len(rows) > limit else None
        return Page([_version_json(row) for row in rows[:limit]], following)

    async def cross_references(
        self, caller: Caller, wanted: Mapping[str, str], cursor: str | None, limit: int
    ) -> Page[Mapping[str, Any]]:
        statement = cross_reference_statement(caller.tenant, wanted, cursor, limit)
        async with self._database.read() as session:
            rows = (await session.execute(statement)).all()
        await self._audit(caller, "cross-reference.searched", "cross-reference", count=min(len(rows), limit))
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        return Page([_cross_reference_json(row) for row in rows[:limit]], following)

    async def _audit(self, caller: Caller, action: str, subject: str, **detail: int) -> None:
        async with self._database.write() as session:
            entry = audit.Audit(action=action, subject=subject, caller=caller, time=self._clock.now(), detail=detail)
            await audit.record(session, entry)


async def _load_records(session: AsyncSession, register: Register, record_ids: Collection[str]) -> None:
    """Records, and those that they were merged into."""
    missing = set(record_ids)
    for _ in range(_MERGES_IN_A_ROW_MAX):
        for part in _parts(missing):
            for row in await session.execute(select(RECORD).where(RECORD.c.id.in_(part))):
                register.records[row.id] = Stored(row.id, row.version, record_of(row.record_type, row.document))
        replaced = {one.record.replaced_by for one in register.records.values() if isinstance(one.record, Patient)}
        missing = {record_id for record_id in replaced if record_id} - register.records.keys()
        if not missing:
            return


async def _referring(session: AsyncSession, tenant: str, targets: Collection[str]) -> set[str]:
    found: set[str] = set()
    for part in _parts(targets):
        statement = select(REFERENCE.c.record_id).where(REFERENCE.c.tenant == tenant, REFERENCE.c.target_id.in_(part))
        found.update((await session.execute(statement)).scalars())
    return found


async def _links(session: AsyncSession, tenant: str, wanted: Collection[LinkKey]) -> dict[LinkKey, Link]:
    groups: dict[tuple[str, str], list[str]] = {}
    for integration_id, record_type, external_id in wanted:
        groups.setdefault((integration_id, record_type), []).append(external_id)
    found: dict[LinkKey, Link] = {}
    for (integration_id, record_type), ids in groups.items():
        for part in _parts(ids):
            for row in await session.execute(link_statement(tenant, integration_id, record_type, part)):
                key = (integration_id, record_type, row.external_id)
                found[key] = Link(row.id, row.record_id, seen_of_json(row.seen))
    return found


async def _owners(session: AsyncSession, tenant: str, wanted: Collection[Key]) -> dict[Key, str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for record_type, system, value in wanted:
        groups.setdefault((record_type, system), []).append(value)
    found: dict[Key, str] = {}
    for (record_type, system), values in groups.items():
        for part in _parts(values):
            for row in await session.execute(owner_statement(tenant, record_type, system, part)):
                found[record_type, system, row.value] = row.record_id
    return found


def link_statement(tenant: str, integration_id: str, record_type: str, ids: Sequence[str]) -> Select[Any]:
    """Cross-references of external ids."""
    columns = CROSS_REFERENCE.c
    return select(columns.id, columns.external_id, columns.record_id, columns.seen).where(
        columns.tenant == tenant,
        columns.integration_id == integration_id,
        columns.record_type == record_type,
        columns.external_id.in_(ids),
    )


def owner_statement(tenant: str, record_type: str, system: str, values: Sequence[str]) -> Select[Any]:
    """Records that own identifiers of a system."""
    columns = IDENTIFIER.c
    return select(columns.value, columns.record_id).where(
        columns.tenant == tenant,
        columns.record_type == record_type,
        columns.system == system,
        columns.value.in_(values),
    )


def search_statement(tenant: str, record_type: str, query: RecordQuery, cursor: str | None, limit: int) -> Select[Any]:
    """A search, one row more than a page (is there a next one?). Raises SuiteError `request.bad-cursor`."""
    columns = RECORD.c
    statement = select(RECORD).where(columns.tenant == tenant, columns.record_type == record_type)
    statement = statement.where(*_conditions(tenant, record_type, query))
    if query.updated_after is None:
        if cursor is not None:
            statement = statement.where(columns.id > decode_cursor(cursor, (str,))[0])
        return statement.order_by(columns.id).limit(limit + 1)
    if cursor is not None:
        at, last_id = decode_cursor(cursor, (str, str))
        try:
            statement = statement.where(tuple_(columns.updated_at, columns.id) > (parse_instant(at), last_id))
        except ValueError as error:
            raise SuiteError("request.bad-cursor") from error
    return statement.order_by(columns.updated_at, columns.id).limit(limit + 1)


def _conditions(tenant: str, record_type: str, query: RecordQuery) -> list[ColumnElement[bool]]:
    columns = RECORD.c
    found: list[ColumnElement[bool]] = []
    if query.name is not None:
        prefix = search_key(query.name)
        named = select(NAME.c.record_id).where(
            NAME.c.tenant == tenant, NAME.c.key >= prefix, NAME.c.key < prefix + _LAST_CHARACTER
        )
        # A name without a letter or digit is nobody's, not everybody's.
        found.append(columns.id.in_(named) if prefix else false())
    if query.birth_date is not None:
        found.append(columns.birth_date == query.birth_date)
    if query.identifier_value is not None:
        owned = select(IDENTIFIER.c.record_id).where(
            IDENTIFIER.c.tenant == tenant,
            IDENTIFIER.c.record_type == record_type,
            IDENTIFIER.c.value == query.identifier_value,
        )
        if query.identifier_system is not None:
            owned = owned.where(IDENTIFIER.c.system == query.identifier_system)
        found.append(columns.id.in_(owned))
    if query.updated_after is not None:
        found.append(columns.updated_at > query.updated_after)
    return found


def _cursor_of(row: Row[Any], query: RecordQuery) -> str:
    return encode_cursor([row.id] if query.updated_after is None else [instant_text(row.updated_at), row.id])


def cross_reference_statement(tenant: str, wanted: Mapping[str, str], cursor: str | None, limit: int) -> Select[Any]:
    """Cross-references by exact values, one row more than a page. Raises SuiteError `request.bad-cursor`."""
    statement = select(CROSS_REFERENCE).where(CROSS_REFERENCE.c.tenant == tenant)
    for name, value in wanted.items():
        statement = statement.where(CROSS_REFERENCE.c[name] == value)
    if cursor is not None:
        statement = statement.where(CROSS_REFERENCE.c.id > decode_cursor(cursor, (str,))[0])
    return statement.order_by(CROSS_REFERENCE.c.id).limit(limit + 1)


async def _record_row(session: AsyncSession, tenant: str, record_type: str, record_id: str) -> Row[Any]:
    columns = RECORD.c
    statement = select(RECORD).where(
        columns.id == record_id, columns.tenant == tenant, columns.record_type == record_type
    )
    row = (await session.execute(statement)).first()
    if row is None:
        raise SuiteError("record.not-found")
    return row


def record_json(row: Row[Any]) -> dict[str, Any]:
    """What the API shows of a record."""
    return {
        "id": row.id,
        "type": row.record_type,
        "version": row.version,
        "origin": row.origin,
        "integration_id": row.integration_id,
        "created_at": instant_text(row.created_at),
        "updated_at": instant_text(row.updated_at),
        "record": row.document,
    }


def _version_json(row: Row[Any]) -> dict[str, Any]:
    return {
        "record_id": row.record_id,
        "version": row.version,
        "changed": row.changed,
        "origin": row.origin,
        "integration_id": row.integration_id,
        "source_id": row.source_id,
        "event_time": instant_text(row.event_time) if row.event_time else None,
        "created_at": instant_text(row.created_at),
        "record": row.document,
    }


def _cross_reference_json(row: Row[Any]) -> dict[str, Any]:
    names = ("id", "integration_id", "record_type", "external_id", "record_id", "content_hash")
    return {
        **{name: getattr(row, name) for name in names},
        "created_at": instant_text(row.created_at),
        "updated_at": instant_text(row.updated_at),
    }


def _parts(values: Iterable[T]) -> list[list[T]]:
    """The values in lists that one statement can hold."""
    listed = list(values)
    return [
        listed[start : start + _VALUES_PER_STATEMENT_MAX] for start in range(0, len(listed), _VALUES_PER_STATEMENT_MAX)
    ]
