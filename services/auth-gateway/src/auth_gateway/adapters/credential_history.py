"""What our own side remembers that tells the causes of a refused token apart."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Table, select

from auth_gateway.adapters.key_set_readings import KeySetReadings
from auth_gateway.adapters.tables import CredentialRow, IntegrationRow
from auth_gateway.adapters.tenant_store import SqlTenantStore
from auth_gateway.core.methods import METHODS
from auth_gateway.core.signing_keys import current, of_environment
from auth_gateway.ports import Credential, History
from common.models.clock import Clock
from common.models.integration import Environment
from common.runtime.database import Database

_CREDENTIAL: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]


class SqlCredentialHistory:
    """`CredentialHistory`."""

    def __init__(self, database: Database, tenants: SqlTenantStore, readings: KeySetReadings, clock: Clock) -> None:
        self._database = database
        self._tenants = tenants
        self._readings = readings
        self._clock = clock

    async def of(self, credential: Credential, environment: Environment) -> History:
        return History(await self._key_read(credential, environment), await self._elsewhere(credential, environment))

    async def _key_read(self, credential: Credential, environment: Environment) -> bool | None:
        if not METHODS[credential.method].uses_our_key:
            return None
        keys = of_environment(await self._tenants.signing_keys(credential.tenant), environment)
        used = current(keys, credential.algorithm, self._clock.now())
        if used is None:
            return None
        read_at = await self._readings.last(credential.tenant, environment)
        return read_at is not None and read_at >= used.created_at

    async def _elsewhere(self, credential: Credential, environment: Environment) -> str | None:
        same = (
            select(_INTEGRATION.c.body)
            .join(_CREDENTIAL, _CREDENTIAL.c.integration_id == _INTEGRATION.c.id)
            .where(
                _CREDENTIAL.c.tenant == credential.tenant,
                _CREDENTIAL.c.client_id == credential.client_id,
                _CREDENTIAL.c.obtained_at.is_not(None),
                _CREDENTIAL.c.integration_id != credential.integration_id,
            )
        )
        async with self._database.read() as session:
            found = {str(row.body["environment"]) for row in await session.execute(same)}
        return min(found - {environment.value}, default=None)
