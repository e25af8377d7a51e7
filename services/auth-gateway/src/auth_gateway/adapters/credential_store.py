"""Credentials in the database; secrets and tokens sealed under the tenant's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import Table, delete, insert, select, update

from auth_gateway.adapters.expiry_tables import forget_expiries
from auth_gateway.adapters.tables import CredentialRow, IntegrationRow
from auth_gateway.core.refresh import TokenState
from auth_gateway.ports import AccessToken, Credential
from common.models.clock import Clock, Ids, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.integration import IntegrationState
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import KeyRing
from common.runtime.leases import Lease, Leases
from common.runtime.telemetry import current_traceparent

_TABLE: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_PLAIN: Final = ("tenant", "integration_id", "name", "method", "client_id", "token_url", "algorithm", "test_every_s")
_NO_TOKEN: Final[dict[str, Any]] = {
    "sealed_token": None, "token_sha256": None, "obtained_at": None, "expires_at": None, "failures": 0,
    "retry_at": None,
    "error_code": None, "tested_at": None,
}  # fmt: skip
_DUE_MAX: Final = 200


class SqlCredentialStore:
    """`Credentials`."""

    def __init__(
        self, database: Database, keyring: KeyRing, leases: Leases, clock: Clock, ids: Ids, source: str
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._leases = leases
        self._clock = clock
        self._ids = ids
        self._source = source

    async def put(self, caller: Caller, credential: Credential, secret: str | None) -> Credential:
        keys = await self._keyring.tenant(credential.tenant)
        now = self._clock.now()
        values: dict[str, Any] = {name: getattr(credential, name) for name in _PLAIN}
        values |= {
            "scopes": list(credential.scopes),
            "secret_expires_at": credential.secret_expires_at,
            "changed_at": now,
        }
        # Due a full period from now: the person who put it tests it, or its first use does.
        values |= {**_NO_TOKEN, "test_due_at": now + timedelta(seconds=credential.test_every_s)}
        if secret is not None:
            values["sealed_secret"] = keys.seal(secret.encode(), record=credential.record, field="secret")
            values["secret_changed_at"] = now
        async with self._database.write() as session:
            present = (await session.execute(select(_TABLE.c.version).where(*_is(credential)))).scalar_one_or_none()
            if present is None:
                await session.execute(insert(_TABLE).values(**{"sealed_secret": None, **values}, version=1))
            else:
                await session.execute(update(_TABLE).where(*_is(credential)).values(**values, version=present + 1))
            await self._audit(session, caller, credential, "credential.changed")
        return await self.get(credential.tenant, credential.integration_id, credential.name)

    async def get(self, tenant: str, integration_id: str, name: str) -> Credential:
        statement = select(_TABLE).where(
            _TABLE.c.tenant == tenant, _TABLE.c.integration_id == integration_id, _TABLE.c.name == name
        )
        async with self._database.read() as session:
            row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("credential.not-found")
        return _credential(row)

    async def list(self, tenant: str, integration_id: str) -> Sequence[Credential]:
        statement = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.integration_id == integration_id)
        async with self._database.read() as session:
            return [_credential(row) for row in (await session.execute(statement.order_by(_TABLE.c.name))).mappings()]

    async def remove(self, caller: Caller, credential: Credential) -> None:
        async with self._database.write() as session:
            await session.execute(delete(_TABLE).where(*_is(credential)))
            await forget_expiries(session, credential.integration_id, credential.name)
            await self._audit(session, caller, credential, "credential.removed")

    async def secret(self, credential: Credential) -> str | None:
        sealed = await self._sealed(credential, "sealed_secret")
        if sealed is None:
            return None
        keys = await self._keyring.tenant(credential.tenant)
        return keys.open(sealed, record=credential.record, field="secret").decode()

    async def token(self, credential: Credential) -> AccessToken | None:
        sealed = await self._sealed(credential, "sealed_token")
        if sealed is None:
            return None
        keys = await self._keyring.tenant(credential.tenant)
        document = orjson.loads(keys.open(sealed, record=credential.record, field="token"))
        return AccessToken(
            document["access_token"], document["token_type"], document["scope"], parse_instant(document["expires_at"])
        )

    async def keep(
        self,
        credential: Credential,
        state: TokenState,
        token: AccessToken | None,
        event: Mapping[str, Any],
        event_type: str,
        lease: Lease | None,
    ) -> None:
        values: dict[str, Any] = {
            "token_sha256": state.token_sha256,
            "obtained_at": state.obtained_at,
            "expires_at": state.expires_at,
            "failures": state.failures,
            "retry_at": state.retry_at,
            "error_code": state.error_code,
        }
        if token is not None:
            keys = await self._keyring.tenant(credential.tenant)
            document = {
                "access_token": token.access_token,
                "token_type": token.token_type,
                "scope": token.scope,
                "expires_at": instant_text(token.expires_at),
            }
            values["sealed_token"] = keys.seal(orjson.dumps(document), record=credential.record, field="token")
        # A credential that was put anew meanwhile does not get the token of the old one.
        unchanged = (*_is(credential), _TABLE.c.version == credential.version)
        async with self._database.write() as session:
            if lease is not None:
                await self._leases.check(session, lease)
            await session.execute(update(_TABLE).where(*unchanged).values(**values))
            await outbox.add(session, [self._event(credential, event_type, event)])

    async def due_for_test(self, now: datetime) -> Sequence[Credential]:
        statement = (
            select(_TABLE)
            .join(_INTEGRATION, _INTEGRATION.c.id == _TABLE.c.integration_id)
            .where(_TABLE.c.test_due_at <= now, _INTEGRATION.c.state == IntegrationState.ACTIVE)
            .order_by(_TABLE.c.test_due_at)
            .limit(_DUE_MAX)
        )
        async with self._database.read() as session:
            return [_credential(row) for row in (await session.execute(statement)).mappings()]

    async def tested(self, credential: Credential, now: datetime) -> None:
        values = {"tested_at": now, "test_due_at": now + timedelta(seconds=credential.test_every_s)}
        async with self._database.write() as session:
            await session.execute(update(_TABLE).where(*_is(credential)).values(**values))

    async def _sealed(self, credential: Credential, column: str) -> bytes | None:
        async with self._database.read() as session:
            sealed: bytes | None = (
                await session.execute(select(_TABLE.c[column]).where(*_is(credential)))
            ).scalar_one_or_none()
        return sealed

    async def _audit(self, session: Any, caller: Caller, credential: Credential, action: str) -> None:
        detail = {
            "integration_id": credential.integration_id,
            "credential": credential.name,
            "method": credential.method,
        }
        await audit.record(
            session,
            audit.Audit(
                action=action, subject=credential.integration_id, caller=caller, time=self._clock.now(), detail=detail
            ),
        )

    def _event(self, credential: Credential, event_type: str, data: Mapping[str, Any]) -> Event:
        return Event(
            id=self._ids.new("evt"),
            type=event_type,
            source=self._source,
            subject=credential.integration_id,
            time=self._clock.now(),
            tenant=credential.tenant,
            key=credential.integration_id,
            data=data,
            traceparent=current_traceparent(),
        )


def _is(credential: Credential) -> tuple[Any, ...]:
    return (
        _TABLE.c.tenant == credential.tenant,
        _TABLE.c.integration_id == credential.integration_id,
        _TABLE.c.name == credential.name,
    )


def _credential(row: Any) -> Credential:
    state = TokenState(
        row["obtained_at"], row["expires_at"], row["failures"], row["retry_at"], row["error_code"], row["token_sha256"]
    )
    plain = {name: row[name] for name in _PLAIN}
    credential = Credential(
        **plain,
        scopes=tuple(row["scopes"]),
        secret_set=row["sealed_secret"] is not None,
        secret_expires_at=row["secret_expires_at"],
        changed_at=row["changed_at"],
        version=row["version"],
    )
    return replace(credential, token=state, tested_at=row["tested_at"])
