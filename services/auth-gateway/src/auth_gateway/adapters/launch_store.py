"""Launches in the database, and the FHIR bases of all practices in memory for half a minute."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, delete, func, insert, select, tuple_

from auth_gateway.adapters.launch_tables import LaunchRow
from auth_gateway.adapters.tables import IntegrationRow
from auth_gateway.core.launch import Launch, LaunchTarget
from common.models.clock import Clock, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.integration import ChannelKind, Vendor
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime.database import Database
from pms.smart_launch import issuer_key

_TABLE: Final[Table] = LaunchRow.__table__  # type: ignore[attr-defined]
_INTEGRATIONS: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_KEPT_S: Final = 30.0
# A stranger may ask for any base: those that nobody has are looked up at most once a second.
_MISSED_S: Final = 1.0


class SqlLaunchStore:
    """`Launches`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._targets: dict[str, list[LaunchTarget]] = {}
        self._read_at = float("-inf")

    async def targets(self, issuer: str) -> Sequence[LaunchTarget]:
        age_s = self._clock.monotonic() - self._read_at
        if age_s > (_KEPT_S if issuer in self._targets else _MISSED_S):
            await self._read_targets()
        return self._targets.get(issuer, [])

    async def _read_targets(self) -> None:
        self._read_at = self._clock.monotonic()
        statement = select(_INTEGRATIONS.c.tenant, _INTEGRATIONS.c.id, _INTEGRATIONS.c.body).order_by(
            _INTEGRATIONS.c.created_at
        )
        found: dict[str, list[LaunchTarget]] = {}
        async with self._database.read() as session:
            for tenant, integration_id, body in await session.execute(statement):
                bases = {
                    issuer_key(channel["endpoint"])
                    for channel in body["channels"].values()
                    if channel["kind"] == ChannelKind.FHIR
                }
                for base in bases - {None}:
                    found.setdefault(base or "", []).append(
                        LaunchTarget(tenant, integration_id, Vendor(body["vendor"]))
                    )
        self._targets = found

    async def add(self, launch: Launch, *, kept_max: int, since: datetime, new_max: int) -> None:
        mine = _TABLE.c.tenant == launch.tenant
        recent = select(func.count()).where(mine, _TABLE.c.launched_at > since).select_from(_TABLE)
        kept = select(_TABLE.c.id).where(mine).order_by(_TABLE.c.launched_at.desc(), _TABLE.c.id.desc()).limit(kept_max)
        async with self._database.write() as session:
            if (await session.execute(recent)).scalar_one() >= new_max:
                raise SuiteError("launch.too-many", f"At most {new_max} a minute are taken.")
            await session.execute(insert(_TABLE).values(**_values(launch)))
            await session.execute(delete(_TABLE).where(mine, _TABLE.c.id.not_in(kept)))

    async def list(self, tenant: str, integration_id: str | None, cursor: str | None, limit: int) -> Page[Launch]:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant)
        if integration_id is not None:
            statement = statement.where(_TABLE.c.integration_id == integration_id)
        if cursor is not None:
            at, last_id = decode_cursor(cursor, (str, str))
            try:
                instant = parse_instant(at)
            except ValueError as error:
                raise SuiteError("request.bad-cursor") from error
            statement = statement.where(tuple_(_TABLE.c.launched_at, _TABLE.c.id) < (instant, last_id))
        statement = statement.order_by(_TABLE.c.launched_at.desc(), _TABLE.c.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            found = [Launch(**row) for row in (await session.execute(statement)).mappings()]
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor([instant_text(last.launched_at), last.id]) if last else None)


def _values(launch: Launch) -> dict[str, Any]:
    return {
        "id": launch.id,
        "tenant": launch.tenant,
        "integration_id": launch.integration_id,
        "kind": launch.kind,
        "parameters": list(launch.parameters),
        "findings": list(launch.findings),
        "launched_at": launch.launched_at,
    }
