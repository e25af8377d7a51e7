"""The audit log: who did what to which thing, chained by hashes per service and tenant, so that a change shows.

Each entry's hash is SHA-256 over the hash before it and the entry in canonical JSON (sorted keys, no spaces). One
appender at a time: on PostgreSQL an advisory lock per chain, held to the commit; SQLite has one writer anyway. Entries
are kept for six years at least (45 CFR 164.316(b)(2)(i)); nothing here deletes any. What a chain can not show is that
its newest entries were cut off: for that, keep an export elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import instant_text
from common.models.identifiers import type_id, uuid7
from common.models.paging import Page, decode_cursor, encode_cursor
from common.models.redaction import project
from common.runtime.authentication import Caller
from common.runtime.database import Database, database_of
from common.runtime.tables import AUDIT

OK: Final = "ok"
REASON_CHARACTERS_MAX: Final = 500
_PAGE_ROWS: Final = 500
_FIRST: Final = bytes(32)
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_ID_RANDOM_BITS: Final = 74

# The verb at the end of an action (`webhook.created`) → AuditEvent.action (FHIR R4, value set audit-event-action).
_FHIR_ACTIONS: Final = {
    "C": ("added", "created", "made", "registered"),
    "R": ("exported", "listed", "read", "searched", "viewed"),
    "U": ("activated", "changed", "paused", "refreshed", "resumed", "rotated", "suspended", "updated"),
    "D": ("deleted", "discarded", "removed", "revoked"),
}
_FHIR_ACTION_OF: Final = {verb: code for code, verbs in _FHIR_ACTIONS.items() for verb in verbs}


@dataclass(frozen=True, slots=True)
class Audit:
    """One entry. `subject` is the id of a thing of ours; `reason` is what the caller gave as reason.

    `outcome` is `ok` or an error code. Of `detail` only what `common.models.redaction` lists is kept.
    """

    action: str
    subject: str
    caller: Caller
    time: datetime
    outcome: str = OK
    reason: str | None = None
    detail: Mapping[str, object] = field(default_factory=dict)


async def record(session: AsyncSession, entry: Audit) -> None:
    """Append an entry to its tenant's chain, in this transaction (of `Database.write()`)."""
    database, tenant = database_of(session), entry.caller.tenant
    if database.dialect == "postgresql":
        await session.execute(_LOCK, {"name": f"practice-studio:audit:{database.schema}:{tenant}"})
    newest = select(AUDIT.c.sequence, AUDIT.c.hash).where(AUDIT.c.tenant == tenant)
    last = (await session.execute(newest.order_by(AUDIT.c.sequence.desc()).limit(1))).first()
    row: dict[str, Any] = {
        "tenant": tenant,
        "sequence": last.sequence + 1 if last else 1,
        "time": entry.time,
        "action": entry.action,
        "subject": entry.subject,
        "caller": entry.caller.subject,
        "outcome": entry.outcome,
        "reason": entry.reason[:REASON_CHARACTERS_MAX] if entry.reason else None,
        "detail": project(entry.detail),
    }
    digest = entry_hash(bytes.fromhex(last.hash) if last else _FIRST, database.module, row)
    await session.execute(insert(AUDIT).values(**row, hash=digest.hex(), id=_entry_id(entry.time, digest)))


def entry_hash(previous: bytes, service: str, row: Mapping[str, Any]) -> bytes:
    """SHA-256 over the hash before (32 bytes; zeros before the first) and the entry in canonical JSON."""
    names = ("tenant", "sequence", "action", "subject", "caller", "outcome", "reason", "detail")
    entry = {"service": service, "time": instant_text(row["time"]), **{name: row[name] for name in names}}
    return hashlib.sha256(previous + orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)).digest()


def _entry_id(time: datetime, digest: bytes) -> str:
    """The id follows from time and hash, so that an entry needs no other source of chance."""
    bits = int.from_bytes(digest) >> (len(digest) * 8 - _ID_RANDOM_BITS)
    return type_id("aud", uuid7(int(time.timestamp() * 1000), bits))


async def search(
    session: AsyncSession, tenant: str, filters: Mapping[str, Any], cursor: str | None, limit: int
) -> Page[dict[str, Any]]:
    """A tenant's entries, newest first.

    Filters (all optional, all must hold): `action`, `subject`, `caller` exactly; `after` (inclusive) and `before`
    (exclusive) as instants. Raises SuiteError `request.bad-cursor`.
    """
    statement = select(AUDIT).where(AUDIT.c.tenant == tenant, *_conditions(filters))
    if cursor is not None:
        statement = statement.where(AUDIT.c.sequence < decode_cursor(cursor, (int,))[0])
    rows = (await session.execute(statement.order_by(AUDIT.c.sequence.desc()).limit(limit + 1))).all()
    following = encode_cursor([rows[limit - 1].sequence]) if len(rows) > limit else None
    return Page([_entry_json(row) for row in rows[:limit]], following)


def _conditions(filters: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    found = [
        AUDIT.c[name] == filters[name] for name in ("action", "subject", "caller") if filters.get(name) is not None
    ]
    if filters.get("after") is not None:
        found.append(AUDIT.c.time >= filters["after"])
    if filters.get("before") is not None:
        found.append(AUDIT.c.time < filters["before"])
    return found


def _entry_json(row: Row[Any]) -> dict[str, Any]:
    names = ("id", "sequence", "action", "subject", "caller", "outcome", "reason", "detail", "hash")
    return {"time": instant_text(row.time), **{name: getattr(row, name) for name in names}}


async def verify(session: AsyncSession, tenant: str) -> str | None:
    """The id of the first entry that does not follow from the one before it; None when the chain is whole."""
    service, previous, sequence = database_of(session).module, _FIRST, 0
    while True:
        rows = await _page_after(session, tenant, sequence)
        for row in rows:
            sequence += 1
            digest = entry_hash(previous, service, row._asdict())
            if row.sequence != sequence or row.hash != digest.hex() or row.id != _entry_id(row.time, digest):
                return str(row.id)
            previous = digest
        if len(rows) < _PAGE_ROWS:
            return None


async def export(database: Database, tenant: str) -> AsyncIterator[bytes]:
    """A tenant's whole log, oldest first, as NDJSON of FHIR R4 AuditEvent; each page is read by itself."""
    sequence = 0
    while True:
        async with database.read() as session:
            rows = await _page_after(session, tenant, sequence)
        if rows:
            sequence = rows[-1].sequence
            yield b"".join(orjson.dumps(audit_event(row, database.module)) + b"\n" for row in rows)
        if len(rows) < _PAGE_ROWS:
            return


async def _page_after(session: AsyncSession, tenant: str, sequence: int) -> list[Row[Any]]:
    statement = select(AUDIT).where(AUDIT.c.tenant == tenant, AUDIT.c.sequence > sequence)
    return list((await session.execute(statement.order_by(AUDIT.c.sequence).limit(_PAGE_ROWS))).all())


def audit_event(row: Row[Any], service: str) -> dict[str, Any]:
    """One entry as a FHIR R4 AuditEvent (http://hl7.org/fhir/R4/auditevent.html)."""
    details = {**row.detail, "sequence": row.sequence, "hash": row.hash}
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": row.id.replace("_", "-"),  # a FHIR id has no underscore
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "subtype": [{"system": "urn:practice-studio:audit-action", "code": row.action}],
        "action": _FHIR_ACTION_OF.get(re.split(r"[.:-]", row.action)[-1], "E"),
        "recorded": instant_text(row.time),
        "outcome": "0" if row.outcome == OK else "4",
        "agent": [{"who": {"identifier": {"value": row.caller}}, "requestor": True}],
        "source": {"observer": {"display": service}, "site": row.tenant},
        "entity": [
            {
                "what": {"identifier": {"value": row.subject}},
                "detail": [{"type": name, "valueString": str(value)} for name, value in details.items()],
            }
        ],
    }
    if row.outcome != OK:
        event["outcomeDesc"] = row.outcome
    if row.reason:
        event["purposeOfEvent"] = [{"text": row.reason}]
    return event
