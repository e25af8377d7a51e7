"""Versions of field mappings and value maps, and unmapped values, in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from sync.adapters.tables import MAPPING_VERSION, UNMAPPED_VALUE
from sync.core.mapping.saved import (
    UNMAPPED_KEPT_MAX,
    UNMAPPED_LISTED_MAX,
    VERSIONS_LISTED_MAX,
    SavedVersion,
    UnmappedValue,
)
from sync.core.mapping.value_map import Unmapped

_TEXT_CHARACTERS_MAX: Final = 400
_VERSION = MAPPING_VERSION.c
_VALUE = UNMAPPED_VALUE.c


class SqlMappingStore:
    """`MappingBook`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def current_versions(self, tenant: str, integration_id: str) -> Mapping[str, int]:
        mine = (_VERSION.tenant == tenant, _VERSION.integration_id == integration_id)
        statement = select(_VERSION.subject, func.max(_VERSION.version)).where(*mine).group_by(_VERSION.subject)
        async with self._database.read() as session:
            return {row[0]: row[1] for row in await session.execute(statement)}

    async def get(
        self, tenant: str, integration_id: str, subject: str, version: int | None = None
    ) -> SavedVersion | None:
        statement = select(MAPPING_VERSION).where(*_of(tenant, integration_id, subject))
        if version is not None:
            statement = statement.where(_VERSION.version == version)
        async with self._database.read() as session:
            row = (await session.execute(statement.order_by(_VERSION.version.desc()).limit(1))).first()
        return _saved(row) if row is not None else None

    async def versions(self, tenant: str, integration_id: str, subject: str) -> Sequence[SavedVersion]:
        statement = select(MAPPING_VERSION).where(*_of(tenant, integration_id, subject))
        statement = statement.order_by(_VERSION.version.desc()).limit(VERSIONS_LISTED_MAX)
        async with self._database.read() as session:
            return [_saved(row) for row in await session.execute(statement)]

    async def save(
        self,
        caller: Caller,
        integration_id: str,
        subject: str,
        after: int,
        content: Sequence[Mapping[str, Any]],
        note: str,
        restored_from: int | None = None,
    ) -> SavedVersion:
        saved = SavedVersion(after + 1, content, note, caller.subject, self._clock.now(), restored_from)
        values = {name: getattr(saved, name) for name in SavedVersion.__slots__}
        values |= {"tenant": caller.tenant, "integration_id": integration_id, "subject": subject}
        entry = audit.Audit(f"{subject.partition('/')[0]}.changed", integration_id, caller, saved.saved_at)
        try:
            async with self._database.write() as session:
                # The primary key settles who of two was first.
                await session.execute(insert(MAPPING_VERSION).values(**values))
                await audit.record(session, entry)
        except IntegrityError as error:
            raise SuiteError("request.version-changed") from error
        return saved

    async def count_unmapped(
        self, session: AsyncSession, tenant: str, integration_id: str, found: Mapping[str, Unmapped]
    ) -> None:
        now = self._clock.now()
        for kind, counted in found.items():
            mine = (_VALUE.tenant == tenant, _VALUE.integration_id == integration_id, _VALUE.kind == kind)
            kept = (await session.execute(select(func.count()).select_from(UNMAPPED_VALUE).where(*mine))).scalar_one()
            room = max(0, UNMAPPED_KEPT_MAX - kept)
            rows: dict[tuple[str, str], dict[str, Any]] = {}
            for (system, code, display), times in counted.items():
                key = (_text(system), _text(code))
                if key not in rows and len(rows) >= room:
                    continue
                row = rows.setdefault(key, {"display": "", "times": 0})
                row["display"] = row["display"] or _text(display)
                row["times"] += times
            base: dict[str, Any] = {"tenant": tenant, "integration_id": integration_id, "kind": kind}
            base |= {"first_seen_at": now, "last_seen_at": now}
            values = [
                {**base, "source_system": system, "source_code": code, **row} for (system, code), row in rows.items()
            ]
            if values:
                statement = self._database.insert(UNMAPPED_VALUE)
                changed = {
                    "times": _VALUE.times + statement.excluded.times,
                    "display": statement.excluded.display,
                    "last_seen_at": statement.excluded.last_seen_at,
                }
                key_columns = list(UNMAPPED_VALUE.primary_key.columns)
                await session.execute(statement.on_conflict_do_update(index_elements=key_columns, set_=changed), values)

    async def unmapped(self, tenant: str, integration_id: str, kind: str) -> Sequence[UnmappedValue]:
        shown = [_VALUE[name] for name in UnmappedValue.__slots__]
        mine = (_VALUE.tenant == tenant, _VALUE.integration_id == integration_id, _VALUE.kind == kind)
        statement = select(*shown).where(*mine).order_by(_VALUE.times.desc(), _VALUE.source_code)
        async with self._database.read() as session:
            return [UnmappedValue(*row) for row in await session.execute(statement.limit(UNMAPPED_LISTED_MAX))]


def _text(text: str) -> str:
    """As PostgreSQL keeps it: without NUL and without lone surrogates."""
    return text[:_TEXT_CHARACTERS_MAX].replace("\x00", "").encode("utf-8", "replace").decode()


def _of(tenant: str, integration_id: str, subject: str) -> tuple[ColumnElement[bool], ...]:
    return (_VERSION.tenant == tenant, _VERSION.integration_id == integration_id, _VERSION.subject == subject)


def _saved(row: Row[Any]) -> SavedVersion:
    return SavedVersion(*(getattr(row, name) for name in SavedVersion.__slots__))
