"""The fleet view: written from the event topics, read by one query for all practices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, Subquery, Table, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.expiry_tables import ExpiryNoticeRow
from auth_gateway.adapters.fleet_tables import FleetOutboxRow, FleetRunRow, FleetUndeliveredRow
from auth_gateway.adapters.tables import CredentialRow, IntegrationRow, TenantKeyRow, TenantRow
from common.models.events import Event
from common.runtime.database import Database

_TENANT: Final[Table] = TenantRow.__table__  # type: ignore[attr-defined]
_KEY: Final[Table] = TenantKeyRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_CREDENTIAL: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_NOTICE: Final[Table] = ExpiryNoticeRow.__table__  # type: ignore[attr-defined]
_RUN: Final[Table] = FleetRunRow.__table__  # type: ignore[attr-defined]
_UNDELIVERED: Final[Table] = FleetUndeliveredRow.__table__  # type: ignore[attr-defined]
_OUTBOX: Final[Table] = FleetOutboxRow.__table__  # type: ignore[attr-defined]
_ENDED: Final = frozenset({"ps.sync.run.finished", "ps.sync.run.failed", "ps.sync.run.cancelled"})
_SETTLED: Final = frozenset({"delivered", "discarded"})
_OUTBOX_KEPT: Final = timedelta(minutes=5)
"""A replica that has said nothing for that long is gone."""


class SqlFleetStore:
    """`Fleet`, and the writer behind the consumer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, session: AsyncSession, events: Sequence[Event]) -> None:
        runs: dict[str, Event] = {}
        deliveries: dict[str, Event] = {}
        measures: dict[tuple[str, str], Event] = {}
        for event in events:
            if event.type in _ENDED:
                runs[event.data["integration_id"]] = event
            elif event.type == "ps.hl7.delivery":
                deliveries[event.data["message_id"]] = event
            elif event.type == "ps.measurement.taken" and event.data["name"] == "outbox_age":
                measures[event.data["module"], event.data["replica"]] = event
        for integration_id, event in runs.items():
            values = {
                "tenant": event.tenant, "state": event.type.rsplit(".", 1)[1],
                "error_code": event.data.get("error_code"), "at": event.time,
            }  # fmt: skip
            await _put(session, _RUN, {"integration_id": integration_id}, values)
        for message_id, event in deliveries.items():
            await _deliver(session, message_id, event)
        for (module, replica), event in measures.items():
            values = {"age_s": float(event.data["value"]), "at": event.time}
            await _put(session, _OUTBOX, {"module": module, "replica": replica}, values)
            await session.execute(delete(_OUTBOX).where(_OUTBOX.c.at < event.time - _OUTBOX_KEPT))

    async def practices(self, limit: int) -> Sequence[Mapping[str, Any]]:
        async with self._database.read() as session:
            return [dict(row) for row in (await session.execute(fleet_query(limit))).mappings()]

    async def outboxes(self, since: datetime) -> Mapping[str, float]:
        newest = (
            select(_OUTBOX.c.module, func.max(_OUTBOX.c.age_s).label("age_s"))
            .where(_OUTBOX.c.at >= since)
            .group_by(_OUTBOX.c.module)
            .order_by(_OUTBOX.c.module)
        )
        async with self._database.read() as session:
            return {row.module: row.age_s for row in await session.execute(newest)}


def fleet_query(limit: int) -> Select[Any]:
    """One row per practice; every figure is counted apart, so that no join multiplies another."""
    integrations = _counted(
        _INTEGRATION,
        func.count().label("integrations"),
        func.sum(case((_INTEGRATION.c.state == "active", 1), else_=0)).label("active"),
        func.max(_INTEGRATION.c.version).label("configuration_version"),
    )
    failing = _counted(
        _CREDENTIAL,
        func.sum(case((_CREDENTIAL.c.error_code.is_not(None), 1), else_=0)).label("failing_credentials"),
    )
    ends = _counted(_NOTICE, func.count().label("expiring"), func.min(_NOTICE.c.expires_at).label("next_expiry"))
    undelivered = _counted(
        _UNDELIVERED, func.count().label("undelivered"), func.min(_UNDELIVERED.c.since).label("undelivered_since")
    )
    runs = _counted(
        _RUN,
        func.max(_RUN.c.at).label("last_run_at"),
        func.sum(case((_RUN.c.state == "failed", 1), else_=0)).label("failing_runs"),
    )
    keys = _counted(_KEY, func.max(_KEY.c.version).label("key_version"))
    parts = (integrations, failing, ends, undelivered, runs, keys)
    figures = [column for part in parts for column in part.c if column.name != "tenant"]
    statement = select(_TENANT, *figures)
    for part in parts:
        statement = statement.outerjoin(part, part.c.tenant == _TENANT.c.id)
    return statement.order_by(_TENANT.c.name, _TENANT.c.id).limit(limit)


def _counted(table: Table, *figures: Any) -> Subquery:
    return select(table.c.tenant, *figures).group_by(table.c.tenant).subquery(f"of_{table.name}")


async def _deliver(session: AsyncSession, message_id: str, event: Event) -> None:
    if event.data["state"] in _SETTLED:
        await session.execute(delete(_UNDELIVERED).where(_UNDELIVERED.c.message_id == message_id))
        return
    known = select(_UNDELIVERED.c.message_id).where(_UNDELIVERED.c.message_id == message_id)
    if (await session.execute(known)).first() is None:
        await session.execute(insert(_UNDELIVERED).values(message_id=message_id, tenant=event.tenant, since=event.time))


async def _put(session: AsyncSession, table: Table, key: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Insert, or replace what is older."""
    place = [table.c[name] == value for name, value in key.items()]
    present = (await session.execute(select(table.c.at).where(*place))).scalar_one_or_none()
    if present is None:
        await session.execute(insert(table).values(**key, **values))
    elif present <= values["at"]:
        await session.execute(update(table).where(*place).values(**values))
