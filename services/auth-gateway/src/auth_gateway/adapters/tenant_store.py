"""Tenants, their data keys and their signing keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.tables import AssertionRow, IntegrationRow, SigningKeyRow, TenantKeyRow, TenantRow
from auth_gateway.core.signing_keys import (
    SigningKey,
    current,
    of_environment,
    published,
    published_without_environment,
)
from auth_gateway.ports import Tenant
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.models.integration import Environment
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import (
    PLATFORM,
    KeyWrapper,
    TenantKeys,
    WrappedKey,
    WrappedKeyRing,
    new_data_key,
    tenant_keys,
)
from common.runtime.tenant_states import OFFBOARDED, OFFBOARDING
from pms.smart import assertion_header

_TENANT: Final[Table] = TenantRow.__table__  # type: ignore[attr-defined]
_KEY: Final[Table] = TenantKeyRow.__table__  # type: ignore[attr-defined]
_SIGNING: Final[Table] = SigningKeyRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_ASSERTION: Final[Table] = AssertionRow.__table__  # type: ignore[attr-defined]
ISSUER_ALGORITHM: Final = "ES256"
_RSA_BITS: Final = 2048
CLIENT_ALGORITHMS: Final = ("RS384", "ES384")


class SqlTenantStore:
    """`Tenants`, and the `KeySource` of this service's own key ring."""

    def __init__(self, database: Database, wrapper: KeyWrapper, clock: Clock) -> None:
        self._database = database
        self._wrapper = wrapper
        self._clock = clock
        self.keyring = WrappedKeyRing(wrapper, self, clock)

    async def add(self, caller: Caller, tenant: Tenant) -> Tenant:
        # Wrapped before the transaction: a KMS may take its time.
        raw, wrapped = await self._data_key(tenant.id, 1)
        async with self._database.read() as session:
            known = (await session.execute(select(_TENANT).where(_TENANT.c.id == tenant.id))).mappings().first()
        if known is not None:
            return _present(known)
        # Made before the transaction, too: RSA keys take their time.
        pairs = [(one, environment, _generate(one)) for environment in Environment for one in CLIENT_ALGORITHMS]
        async with self._database.write() as session:
            present = (await session.execute(select(_TENANT).where(_TENANT.c.id == tenant.id))).mappings().first()
            if present is not None:
                return _present(present)
            await session.execute(
                insert(_TENANT).values(id=tenant.id, name=tenant.name, state=tenant.state, created_at=tenant.created_at)
            )
            await self._add_data_key(session, tenant.id, wrapped)
            keys = tenant_keys(tenant.id, {1: raw})
            for algorithm, environment, pair in pairs:
                await self._keep_signing_key(session, tenant.id, keys, algorithm, pair, environment=environment)
            await audit.record(
                session, audit.Audit(action="tenant.created", subject=tenant.id, caller=caller, time=self._clock.now())
            )
        return tenant

    async def name_gone(self, name: str) -> bool:
        """Whether a practice of this name is being offboarded or was."""
        gone = (func.lower(_TENANT.c.name) == name.strip().lower(), _TENANT.c.state.in_((OFFBOARDING, OFFBOARDED)))
        async with self._database.read() as session:
            return (await session.execute(select(_TENANT.c.id).where(*gone).limit(1))).first() is not None

    async def list(self) -> Sequence[Tenant]:
        async with self._database.read() as session:
            rows = (await session.execute(select(_TENANT).order_by(_TENANT.c.created_at, _TENANT.c.id))).mappings()
            return [_tenant(row) for row in rows]

    async def wrapped(self, tenant: str) -> Sequence[WrappedKey]:
        async with self._database.read() as session:
            rows = (
                await session.execute(select(_KEY).where(_KEY.c.tenant == tenant).order_by(_KEY.c.version))
            ).mappings()
            return [WrappedKey(row["version"], row["wrapped"], row["seals_from"]) for row in rows]

    async def jwks(self, tenant: str, environment: Environment | None = None) -> dict[str, Any]:
        statement = select(_SIGNING).where(_SIGNING.c.tenant == tenant).order_by(_SIGNING.c.created_at, _SIGNING.c.kid)
        async with self._database.read() as session:
            rows = (await session.execute(statement)).mappings().all()
        if not rows:
            raise SuiteError("tenant.not-found")
        keys, now = [_signing_key(row) for row in rows], self._clock.now()
        if environment is None:
            shown = published_without_environment(keys, now)
        else:
            shown = published(of_environment(keys, environment), now)
        seen = {key.kid for key in shown}
        return {"keys": [row["public"] for row in rows if row["kid"] in seen]}

    async def signing_keys(self, tenant: str) -> Sequence[SigningKey]:
        statement = select(_SIGNING).where(_SIGNING.c.tenant == tenant).order_by(_SIGNING.c.created_at, _SIGNING.c.kid)
        async with self._database.read() as session:
            return [_signing_key(row) for row in (await session.execute(statement)).mappings()]

    async def add_signing_key(
        self, caller: Caller, environment: Environment, algorithm: str, wait: timedelta
    ) -> SigningKey:
        keys, now = await self.keyring.tenant(caller.tenant), self._clock.now()
        pair = _generate(algorithm)
        async with self._database.write() as session:
            kid = await self._keep_signing_key(
                session, caller.tenant, keys, algorithm, pair, environment=environment, used_from=now + wait
            )
            detail = {"environment": environment.value}
            await audit.record(
                session,
                audit.Audit(action="signing-key.added", subject="signing-key", caller=caller, time=now, detail=detail),
            )
        return SigningKey(kid, algorithm, now, now + wait, environment)

    async def signer(self, tenant: str, integration_id: str, algorithm: str) -> Callable[[dict[str, Any]], str]:
        mine = (_INTEGRATION.c.tenant == tenant, _INTEGRATION.c.id == integration_id)
        async with self._database.read() as session:
            body: Any = (await session.execute(select(_INTEGRATION.c.body).where(*mine))).scalar_one_or_none()
        if body is None:
            raise SuiteError("integration.not-found")
        # Read each time: an integration may be moved to another environment, and its key goes with it.
        environment = Environment(body["environment"])
        key = await self._private(tenant, algorithm, of_environment(await self.signing_keys(tenant), environment))

        def sign(claims: dict[str, Any]) -> str:
            return jwt.encode(assertion_header(algorithm, str(key.kid)), claims, key, algorithms=[algorithm])

        return sign

    async def ensure_platform(self) -> None:
        """The suite's own data key and issuer key, made at the first start."""
        if await self.wrapped(PLATFORM):
            return
        raw, wrapped = await self._data_key(PLATFORM, 1)
        async with self._database.write() as session:
            held = (await session.execute(select(_KEY).where(_KEY.c.tenant == PLATFORM))).first()
            if held is None:
                await self._add_data_key(session, PLATFORM, wrapped)
                keys = tenant_keys(PLATFORM, {1: raw})
                await self._keep_signing_key(
                    session, PLATFORM, keys, ISSUER_ALGORITHM, _generate(ISSUER_ALGORITHM), environment=None
                )

    async def rotate_issuer(self, caller: Caller) -> None:
        """A new issuer key; tokens of the old one are refused as soon as the key sets in memory are fetched again."""
        keys = await self.keyring.tenant(PLATFORM)
        async with self._database.write() as session:
            await session.execute(delete(_SIGNING).where(_SIGNING.c.tenant == PLATFORM))
            await self._keep_signing_key(
                session, PLATFORM, keys, ISSUER_ALGORITHM, _generate(ISSUER_ALGORITHM), environment=None
            )
            await audit.record(
                session, audit.Audit(action="issuer.rotated", subject="issuer", caller=caller, time=self._clock.now())
            )

    async def issue(self, claims: dict[str, Any]) -> str:
        """A token of the suite's issuer."""
        key = await self._private(PLATFORM, ISSUER_ALGORITHM, await self.signing_keys(PLATFORM))
        return jwt.encode(
            {"alg": ISSUER_ALGORITHM, "kid": str(key.kid), "typ": "JWT"}, claims, key, algorithms=[ISSUER_ALGORITHM]
        )

    async def use_assertion(self, jti: str, expires_at: Any) -> bool:
        """False when this assertion was used before."""
        async with self._database.write() as session:
            await session.execute(delete(_ASSERTION).where(_ASSERTION.c.expires_at < self._clock.now()))
            used = (await session.execute(select(_ASSERTION.c.jti).where(_ASSERTION.c.jti == jti))).first()
            if used is None:
                await session.execute(insert(_ASSERTION).values(jti=jti, expires_at=expires_at))
            return used is None

    async def exists(self, tenant: str) -> bool:
        """Whether there is such a tenant, the platform itself included. Raises SuiteError `tenant.offboarded` for one
        whose keys are destroyed."""
        if tenant == PLATFORM:
            return True
        async with self._database.read() as session:
            known = (await session.execute(select(_TENANT.c.id).where(_TENANT.c.id == tenant))).first()
            keys = (await session.execute(select(_KEY.c.version).where(_KEY.c.tenant == tenant).limit(1))).first()
        if known is not None and keys is None:
            raise SuiteError("tenant.offboarded")
        return known is not None

    async def _data_key(self, tenant: str, version: int) -> tuple[bytes, WrappedKey]:
        raw = new_data_key()
        return raw, await self._wrapper.wrap(tenant, version, raw)

    async def _add_data_key(self, session: AsyncSession, tenant: str, key: WrappedKey) -> None:
        values = {"version": key.version, "wrapped": key.wrapped, "seals_from": key.seals_from}
        await session.execute(insert(_KEY).values(tenant=tenant, **values))

    async def _keep_signing_key(
        self,
        session: AsyncSession,
        tenant: str,
        keys: TenantKeys,
        algorithm: str,
        key: RSAKey | ECKey,
        *,
        environment: Environment | None,
        used_from: datetime | None = None,
    ) -> str:
        kid = key.thumbprint()
        public = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": algorithm}
        private = orjson.dumps({**key.as_dict(private=True), "kid": kid, "alg": algorithm})
        await session.execute(
            insert(_SIGNING).values(
                kid=kid,
                tenant=tenant,
                algorithm=algorithm,
                public=public,
                sealed_private=keys.seal(private, record=kid, field="private-key"),
                created_at=self._clock.now(),
                used_from=used_from,
                environment=environment,
            )
        )
        return kid

    async def _private(self, tenant: str, algorithm: str, held: Sequence[SigningKey]) -> RSAKey | ECKey:
        used = current(held, algorithm, self._clock.now())
        if used is None:
            raise SuiteError("tenant.not-found")
        async with self._database.read() as session:
            row = (await session.execute(select(_SIGNING).where(_SIGNING.c.kid == used.kid))).mappings().first()
        if row is None:
            raise SuiteError("tenant.not-found")
        keys = await self.keyring.tenant(tenant)
        document = orjson.loads(keys.open(row["sealed_private"], record=row["kid"], field="private-key"))
        return RSAKey.import_key(document) if document["kty"] == "RSA" else ECKey.import_key(document)


def _generate(algorithm: str) -> RSAKey | ECKey:
    if algorithm.startswith("RS"):
        return RSAKey.generate_key(_RSA_BITS)
    return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384"}[algorithm])


def _present(row: Any) -> Tenant:
    """One that is there already; a practice that ended is not made again by its id."""
    if row["state"] in (OFFBOARDING, OFFBOARDED):
        raise SuiteError(f"tenant.{row['state']}")
    return _tenant(row)


def _tenant(row: Any) -> Tenant:
    return Tenant(row["id"], row["name"], row["state"], row["created_at"])


def _signing_key(row: Any) -> SigningKey:
    environment = Environment(row["environment"]) if row["environment"] else None
    used_from = row["used_from"] or row["created_at"]
    return SigningKey(row["kid"], row["algorithm"], row["created_at"], used_from, environment)
