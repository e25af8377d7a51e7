"""Suspending and resuming a practice: its state, its integrations, the audit entries and events in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.integration_store import SqlIntegrationStore
from auth_gateway.adapters.tables import IntegrationRow, TenantRow
from auth_gateway.adapters.tenant_state_tables import SuspendedIntegrationRow
from auth_gateway.ports import Tenant
from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.integration import IntegrationState
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.telemetry import current_traceparent
from common.runtime.tenant_states import OFFBOARDED, OFFBOARDING, SUSPENDED

_TENANT: Final[Table] = TenantRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_PAUSED: Final[Table] = SuspendedIntegrationRow.__table__  # type: ignore[attr-defined]
_ACTIVE: Final = "active"
_ACTIONS: Final = {SUSPENDED: "tenant.suspended", _ACTIVE: "tenant.resumed", OFFBOARDING: "tenant.offboarding-begun"}


class SqlTenantStates:
    """`TenantMoves`."""

    def __init__(
        self, database: Database, integrations: SqlIntegrationStore, clock: Clock, ids: Ids, source: str
    ) -> None:
        self._database = database
        self._integrations = integrations
        self._clock = clock
        self._ids = ids
        self._source = source

    async def suspend(self, caller: Caller, tenant: str, reason: str) -> Tenant:
        mine = (_INTEGRATION.c.tenant == tenant, _INTEGRATION.c.state == IntegrationState.ACTIVE)
        async with self._database.write() as session:
            _check_here(await _read(session, tenant))
            if await self._move(session, caller, tenant, SUSPENDED, reason):
                active = list((await session.execute(select(_INTEGRATION.c.id).where(*mine))).scalars())
                for integration_id in active:
                    await session.execute(insert(_PAUSED).values(integration_id=integration_id, tenant=tenant))
                await self._set(session, caller, tenant, active, IntegrationState.PAUSED, "integration.paused")
            return await _read(session, tenant)

    async def begin_offboarding(self, session: AsyncSession, caller: Caller, tenant: str, reason: str) -> Tenant:
        """In the given transaction: as suspended, for good. Raises SuiteError `tenant.not-found`,
        `tenant.offboarding`, `tenant.offboarded`."""
        found = await _read(session, tenant)
        _check_here(found)
        await self._move(session, caller, tenant, OFFBOARDING, reason)
        mine = (_INTEGRATION.c.tenant == tenant, _INTEGRATION.c.state == IntegrationState.ACTIVE)
        active = list((await session.execute(select(_INTEGRATION.c.id).where(*mine))).scalars())
        await self._set(session, caller, tenant, active, IntegrationState.PAUSED, "integration.paused")
        return found

    async def get(self, tenant: str) -> Tenant:
        """Raises SuiteError `tenant.not-found`."""
        async with self._database.read() as session:
            return await _read(session, tenant, lock=False)

    async def resume(self, caller: Caller, tenant: str, reason: str) -> Tenant:
        async with self._database.write() as session:
            _check_here(await _read(session, tenant))
            if await self._move(session, caller, tenant, _ACTIVE, reason):
                paused = select(_PAUSED.c.integration_id).where(_PAUSED.c.tenant == tenant)
                ids = list((await session.execute(paused)).scalars())
                await self._set(session, caller, tenant, ids, IntegrationState.ACTIVE, "integration.resumed")
                await session.execute(delete(_PAUSED).where(_PAUSED.c.tenant == tenant))
            return await _read(session, tenant)

    async def admit(self, tenant: str) -> None:
        async with self._database.read() as session:
            statement = select(_TENANT.c.state).where(_TENANT.c.id == tenant)
            if (await session.execute(statement)).scalar_one_or_none() in (SUSPENDED, OFFBOARDING, OFFBOARDED):
                raise SuiteError("tenant.suspended")

    async def _move(self, session: AsyncSession, caller: Caller, tenant: str, state: str, reason: str) -> bool:
        """Whether the state changed; audited in the platform's chain and in the practice's own."""
        present = await _read(session, tenant)
        if present.state == state:
            return False
        await session.execute(update(_TENANT).where(_TENANT.c.id == tenant).values(state=state))
        action = _ACTIONS[state]
        for chain in (caller, replace(caller, tenant=tenant)):
            await audit.record(session, audit.Audit(action, tenant, chain, self._clock.now(), reason=reason))
        await outbox.add(session, [self.announcement(tenant, state)])
        return True

    def announcement(self, tenant: str, state: str) -> Event:
        """What every process is told of a practice's state."""
        return Event(
            id=self._ids.new("evt"),
            type="ps.tenant.changed",
            source=self._source,
            subject=tenant,
            time=self._clock.now(),
            tenant=tenant,
            key=tenant,
            data={"state": state},
            traceparent=current_traceparent(),
        )

    async def _set(
        self,
        session: AsyncSession,
        caller: Caller,
        tenant: str,
        ids: Sequence[str],
        state: IntegrationState,
        action: str,
    ) -> None:
        acting = replace(caller, tenant=tenant)
        for integration_id in ids:
            await self._integrations.set_state(session, acting, integration_id, state, action)


def _check_here(tenant: Tenant) -> None:
    if tenant.state in (OFFBOARDING, OFFBOARDED):
        raise SuiteError(f"tenant.{tenant.state}")


async def _read(session: AsyncSession, tenant: str, *, lock: bool = True) -> Tenant:
    statement = select(_TENANT).where(_TENANT.c.id == tenant)
    row: Any = (await session.execute(statement.with_for_update() if lock else statement)).first()
    if row is None:
        raise SuiteError("tenant.not-found")
    return Tenant(row.id, row.name, row.state, row.created_at)
