"""Rows that were not taken, in the database; their bodies are sealed under the tenant's key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from common.models.clock import Clock, Ids
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime.database import Database
from common.runtime.keyring import KeyRing, TenantKeys
from sync.adapters.tables import OPEN, QUARANTINE
from sync.core.incoming import Incoming, Origin
from sync.ports import Quarantined, QuarantineRow

_FIELD: Final = "body"
_DOMAIN: Final = "quarantine"
_OPEN: Final = "open"
_RESOLVED: Final = "resolved"
_VALUES_PER_STATEMENT_MAX: Final = 500


class SqlQuarantineStore:
    """`QuarantineBook` and `QuarantineList`."""

    def __init__(self, database: Database, keyring: KeyRing, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._ids = ids

    async def put(self, session: AsyncSession, tenant: str, rows: Sequence[Quarantined]) -> None:
        if not rows:
            return
        keys = await self._keyring.tenant(tenant)
        # The same row twice in one statement could not be settled by ON CONFLICT; the later one says what is so now.
        newest = {(row.integration_id, row.record_type, _source_key(keys, row)): row for row in rows}
        statement = self._database.insert(QUARANTINE)
        again = ("source_id", "position", "code", "rule", "value_class", "state", "body", "updated_at")
        # A sealed body belongs to the id it was sealed for, so the id goes with it.
        changed: dict[str, Any] = {name: statement.excluded[name] for name in ("id", *again)}
        changed["times"] = QUARANTINE.c.times + 1
        key = ["tenant", "integration_id", "record_type", "source_key"]
        values = [self._values(tenant, keys, source_key, row) for (_, _, source_key), row in newest.items()]
        await session.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), values)

    async def resolve(self, session: AsyncSession, tenant: str, taken: Sequence[Incoming]) -> None:
        groups: dict[tuple[str, str], list[str]] = {}
        for item in taken:
            name = item.external_id if item.origin is Origin.FHIR else item.source_key or item.source_id
            groups.setdefault((item.integration_id, item.record.TYPE), []).append(name)
        columns = QUARANTINE.c
        for (integration_id, record_type), names in groups.items():
            is_open = (columns.tenant == tenant, columns.integration_id == integration_id, text(OPEN))
            # Nearly always nothing is open: then nothing is hashed and nothing written.
            if (await session.execute(select(columns.id).where(*is_open).limit(1))).first() is None:
                continue
            keys = await self._keyring.tenant(tenant)
            for start in range(0, len(names), _VALUES_PER_STATEMENT_MAX):
                part = names[start : start + _VALUES_PER_STATEMENT_MAX]
                hashed = [keys.pseudonym(_DOMAIN, name) for name in part]
                same = (columns.record_type == record_type, columns.source_key.in_(hashed))
                statement = update(QUARANTINE).where(*is_open, *same)
                await session.execute(statement.values(state=_RESOLVED, updated_at=self._clock.now()))

    async def list(
        self, tenant: str, integration_id: str | None, state: str | None, cursor: str | None, limit: int
    ) -> Page[QuarantineRow]:
        columns = QUARANTINE.c
        shown = [columns[name] for name in QuarantineRow.__slots__]
        statement = select(*shown).where(columns.tenant == tenant)
        if integration_id is not None:
            statement = statement.where(columns.integration_id == integration_id)
        if state is not None:
            statement = statement.where(columns.state == state)
        if cursor is not None:
            statement = statement.where(columns.id < decode_cursor(cursor, (str,))[0])
        async with self._database.read() as session:
            rows = (await session.execute(statement.order_by(columns.id.desc()).limit(limit + 1))).all()
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        return Page([QuarantineRow(*row) for row in rows[:limit]], following)

    def _values(self, tenant: str, keys: TenantKeys, source_key: str, row: Quarantined) -> dict[str, Any]:
        row_id, now = self._ids.new("qua"), self._clock.now()
        return {
            "id": row_id,
            "tenant": tenant,
            "integration_id": row.integration_id,
            "record_type": row.record_type,
            "origin": row.origin.value,
            "source_id": row.source_id,
            "source_key": source_key,
            "position": row.position,
            "code": row.rejection.code,
            "rule": row.rejection.rule,
            "value_class": row.rejection.value_class,
            "state": _OPEN,
            "times": 1,
            "body": keys.seal(row.body, record=row_id, field=_FIELD),
            "created_at": now,
            "updated_at": now,
        }


def _source_key(keys: TenantKeys, row: Quarantined) -> str:
    return keys.pseudonym(_DOMAIN, row.source_key)
