"""Alerts and rule settings in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Table, delete, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerts.adapters.tables import AlertRow, RuleSetting
from alerts.core.life_cycle import Alert, State, acknowledge
from common.models.clock import Clock, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database

_ALERT: Final[Table] = AlertRow.__table__  # type: ignore[attr-defined]
_SETTING: Final[Table] = RuleSetting.__table__  # type: ignore[attr-defined]
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('practice-studio:alerts', 0))")


class SqlAlertStore:
    """`AlertStore` and `AlertBook`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def lock(self, session: AsyncSession) -> None:
        if self._database.dialect == "postgresql":  # SQLite has one writer anyway
            await session.execute(_LOCK)

    async def any_live(self, rules: Sequence[str]) -> bool:
        statement = select(_ALERT.c.id).where(_ALERT.c.state != State.RESOLVED, _ALERT.c.rule.in_(rules)).limit(1)
        async with self._database.read() as session:
            return (await session.execute(statement)).first() is not None

    async def live(
        self, session: AsyncSession, tenants: Sequence[str] | None
    ) -> dict[tuple[str, str, str, str], Alert]:
        statement = select(_ALERT).where(_ALERT.c.state != State.RESOLVED)
        if tenants is not None:
            statement = statement.where(_ALERT.c.tenant.in_(tenants))
        found = [_alert(row) for row in (await session.execute(statement)).mappings()]
        return {(alert.tenant, alert.rule, alert.integration_id, alert.subject): alert for alert in found}

    async def save(self, session: AsyncSession, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        # An alert that was resolved and began anew within one batch has two rows; the resolved one is written first,
        # so that the index over live alerts never sees both.
        await session.execute(delete(_ALERT).where(_ALERT.c.id.in_([alert.id for alert in alerts])))
        await session.execute(insert(_ALERT), [_values(alert) for alert in alerts])

    async def overrides(
        self, session: AsyncSession, tenants: Sequence[str]
    ) -> dict[tuple[str, str], Mapping[str, Any]]:
        statement = select(_SETTING).where(_SETTING.c.tenant.in_(tenants))
        return {(row["tenant"], row["rule"]): _override(row) for row in (await session.execute(statement)).mappings()}

    async def search(
        self, tenant: str, state: str | None, integration_id: str | None, cursor: str | None, limit: int
    ) -> Page[Alert]:
        columns = _ALERT.c
        statement = select(_ALERT).where(columns.tenant == tenant, columns.opened_at.is_not(None))
        if state is not None:
            statement = statement.where(columns.state == state)
        if integration_id is not None:
            statement = statement.where(columns.integration_id == integration_id)
        if cursor is not None:
            at, last_id = decode_cursor(cursor, (str, str))
            try:
                instant = parse_instant(at)
            except ValueError as error:
                raise SuiteError("request.bad-cursor") from error
            statement = statement.where(tuple_(columns.began_at, columns.id) < (instant, last_id))
        statement = statement.order_by(columns.began_at.desc(), columns.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            found = [_alert(row) for row in (await session.execute(statement)).mappings()]
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor([instant_text(last.began_at), last.id]) if last else None)

    async def get(self, tenant: str, alert_id: str) -> Alert:
        async with self._database.read() as session:
            return await self._get(session, tenant, alert_id)

    async def acknowledge(self, tenant: str, alert_id: str, caller: Caller) -> Alert:
        async with self._database.write() as session:
            await self.lock(session)
            before = await self._get(session, tenant, alert_id)
            after = acknowledge(before, caller.subject, self._clock.now())
            if after is not before:
                await self.save(session, [after])
                await self._audit(session, caller, "alert.acknowledged", alert_id)
        return after

    async def rule_overrides(self, tenant: str) -> dict[str, Mapping[str, Any]]:
        async with self._database.read() as session:
            found = await self.overrides(session, [tenant])
        return {rule: override for (_, rule), override in found.items()}

    async def change_rule(
        self, caller: Caller, rule: str, changed: Mapping[str, Any], version: int
    ) -> Mapping[str, Any]:
        async with self._database.write() as session:
            await self.lock(session)
            present = (await self.overrides(session, [caller.tenant])).get((caller.tenant, rule))
            if (present or {"version": 1})["version"] != version:
                raise SuiteError("request.version-changed")
            values = {"enabled": True, "threshold": None, **(present or {}), **changed, "version": version + 1}
            if present is None:
                await session.execute(insert(_SETTING).values(tenant=caller.tenant, rule=rule, **values))
            else:
                await session.execute(
                    update(_SETTING).where(_SETTING.c.tenant == caller.tenant, _SETTING.c.rule == rule).values(**values)
                )
            await self._audit(session, caller, "alert-rule.changed", rule)
        return {name: value for name, value in values.items() if value is not None}

    async def _get(self, session: AsyncSession, tenant: str, alert_id: str) -> Alert:
        statement = select(_ALERT).where(_ALERT.c.tenant == tenant, _ALERT.c.id == alert_id)
        row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("alert.not-found")
        return _alert(row)

    async def _audit(self, session: AsyncSession, caller: Caller, action: str, subject: str) -> None:
        await audit.record(session, audit.Audit(action=action, subject=subject, caller=caller, time=self._clock.now()))


def _values(alert: Alert) -> dict[str, Any]:
    return {name: getattr(alert, name) for name in Alert.__slots__}


def _alert(row: Any) -> Alert:
    values = {name: row[name] for name in Alert.__slots__}
    return Alert(**{**values, "state": State(values["state"])})


def _override(row: Any) -> Mapping[str, Any]:
    values = {"enabled": row["enabled"], "threshold": row["threshold"], "version": row["version"]}
    return {name: value for name, value in values.items() if value is not None}
