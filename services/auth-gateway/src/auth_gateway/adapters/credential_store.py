"""Credentials in the database; secrets and tokens sealed under the tenant's key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import RowMapping, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_gateway.adapters.expiry_tables import forget_expiries
from auth_gateway.adapters.tables import CredentialRow, IntegrationRow
from auth_gateway.core.methods import METHODS, Grant, TokenKind
from auth_gateway.core.refresh import TokenState
from auth_gateway.ports import AccessToken, Credential, Secrets
from common.models.clock import Clock, Ids, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.events import Event
from common.models.integration import IntegrationState, Vendor
from common.runtime import audit, outbox
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import KeyRing, TenantKeys
from common.runtime.leases import Lease, Leases
from common.runtime.telemetry import current_traceparent

_TABLE: Final[Table] = CredentialRow.__table__  # type: ignore[attr-defined]
_INTEGRATION: Final[Table] = IntegrationRow.__table__  # type: ignore[attr-defined]
_PLAIN: Final = (
    "tenant",
    "integration_id",
    "name",
    "vendor",
    "method",
    "client_id",
    "token_url",
    "algorithm",
    "test_every_s",
)
_NO_TOKEN: Final[dict[str, Any]] = {
    "sealed_token": None, "token_sha256": None, "obtained_at": None, "expires_at": None, "failures": 0,
    "retry_at": None,
    "error_code": None, "tested_at": None, "sealed_refresh": None, "reconnect": False, "unanswered": 0,
}  # fmt: skip
_NO_SECRETS: Final[dict[str, Any]] = {"sealed_secret": None, "sealed_second": None, "sealed_versions": {}}
_WITH_TOKENS: Final = tuple(sorted(name for name, row in METHODS.items() if row.kind is not TokenKind.NONE))
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

    async def put(self, caller: Caller, credential: Credential, secrets: Secrets) -> Credential:
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
        values |= {"grant": credential.grant.value, "options": dict(credential.options)}
        given = _given(secrets)
        if "secret" in given:
            values["secret_changed_at"] = now
        async with self._database.write() as session:
            present = (await session.execute(select(_TABLE).where(*_is(credential)))).mappings().first()
            if (0 if present is None else present["version"]) != credential.version:
                raise SuiteError("request.version-changed")
            if present is not None and present["method"] != credential.method:
                values |= {"sealed_secret": None, "sealed_second": None}
            values |= await _seal(session, keys, credential, given)
            if present is not None and _granted_to(present) == _granted_to(values):
                del values["sealed_refresh"]
            if present is None:
                await session.execute(insert(_TABLE).values(**{**_NO_SECRETS, **values}, version=1))
            else:
                values["version"] = present["version"] + 1
                await session.execute(update(_TABLE).where(*_is(credential)).values(**values))
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

    async def secrets(self, credential: Credential) -> Secrets:
        return Secrets(*[await self._text(credential, field) for field in ("secret", "second")])

    async def refresh_token(self, credential: Credential) -> str | None:
        return await self._text(credential, "refresh")

    async def _holds(self, session: AsyncSession, lease: Lease | None, *, rotated: bool) -> bool:
        """Whether the lease still holds; raises SuiteError `lease.lost` where nothing depends on what came."""
        if lease is None:
            return True
        try:
            await self._leases.check(session, lease)
        except SuiteError:
            if not rotated:
                raise
            return False
        return True

    async def begin_refresh(self, credential: Credential, lease: Lease | None) -> None:
        unchanged = (*_is(credential), _TABLE.c.version == credential.version)
        async with self._database.write() as session:
            if lease is not None:
                await self._leases.check(session, lease)
            noted = update(_TABLE).where(*unchanged).values(unanswered=_TABLE.c.unanswered + 1)
            _check_written((await session.execute(noted.returning(_TABLE.c.name))).first())

    async def lent(self, caller: Caller, credential: Credential, purpose: str) -> None:
        async with self._database.write() as session:
            await self._audit(session, caller, credential, "credential.lent", reason=purpose)

    async def _text(self, credential: Credential, field: str) -> str | None:
        opened = await self._opened(credential, field)
        return None if opened is None else opened.decode()

    async def token(self, credential: Credential) -> AccessToken | None:
        opened = await self._opened(credential, "token")
        if opened is None:
            return None
        document = orjson.loads(opened)
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
        refresh_token: str | None = None,
    ) -> None:
        values: dict[str, Any] = {
            "reconnect": state.reconnect,
            "unanswered": state.unanswered,
            "token_sha256": state.token_sha256,
            "obtained_at": state.obtained_at,
            "expires_at": state.expires_at,
            "failures": state.failures,
            "retry_at": state.retry_at,
            "error_code": state.error_code,
        }
        keys = await self._keyring.tenant(credential.tenant)
        plain: dict[str, bytes] = {}
        if token is not None:
            document = {
                "access_token": token.access_token,
                "token_type": token.token_type,
                "scope": token.scope,
                "expires_at": instant_text(token.expires_at),
            }
            plain["token"] = orjson.dumps(document)
        if refresh_token is not None:
            plain["refresh"] = refresh_token.encode()
        # A credential that was put anew meanwhile does not get the token of the old one.
        unchanged = (*_is(credential), _TABLE.c.version == credential.version)
        async with self._database.write() as session:
            if state.reconnect or not await self._holds(session, lease, rotated=refresh_token is not None):
                # The lease went while the provider answered. What it gave cannot be had again, and the token before it
                # is used up: it is stored all the same, unless somebody stored a later one. Nor does a refusal of the
                # token before undo one that came meanwhile.
                unchanged = (*unchanged, _TABLE.c.obtained_at.is_not_distinct_from(credential.token.obtained_at))
            values |= await _seal(session, keys, credential, plain)
            written = update(_TABLE).where(*unchanged).values(**values).returning(_TABLE.c.name)
            _check_written((await session.execute(written)).first())
            await outbox.add(session, [self._event(credential, event_type, event)])

    async def due_for_test(self, now: datetime) -> Sequence[Credential]:
        statement = (
            select(_TABLE)
            .join(_INTEGRATION, _INTEGRATION.c.id == _TABLE.c.integration_id)
            .where(
                _TABLE.c.test_due_at <= now,
                _INTEGRATION.c.state == IntegrationState.ACTIVE,
                # Nobody but a person can mend it, and there is nothing to ask of one without tokens.
                _TABLE.c.reconnect.is_(False),
                _TABLE.c.method.in_(_WITH_TOKENS),
            )
            .order_by(_TABLE.c.test_due_at)
            .limit(_DUE_MAX)
        )
        async with self._database.read() as session:
            return [_credential(row) for row in (await session.execute(statement)).mappings()]

    async def tested(self, credential: Credential, now: datetime) -> None:
        values = {"tested_at": now, "test_due_at": now + timedelta(seconds=credential.test_every_s)}
        async with self._database.write() as session:
            await session.execute(update(_TABLE).where(*_is(credential)).values(**values))

    async def _opened(self, credential: Credential, field: str) -> bytes | None:
        """A sealed value; one that an older data key sealed is sealed anew by the way."""
        column = _TABLE.c[f"sealed_{field}"]
        async with self._database.read() as session:
            row = (await session.execute(select(column, _TABLE.c.sealed_versions).where(*_is(credential)))).first()
        if row is None or row[0] is None:
            return None
        sealed: bytes = row[0]
        keys = await self._keyring.tenant(credential.tenant)
        plain = keys.open(sealed, record=credential.record, field=field, version=row[1].get(field, 1))
        if keys.stale(sealed):
            async with self._database.write() as session:
                values = await _seal(session, keys, credential, {field: plain})
                await session.execute(update(_TABLE).where(*_is(credential), column == sealed).values(**values))
        return plain

    async def _audit(
        self, session: Any, caller: Caller, credential: Credential, action: str, *, reason: str | None = None
    ) -> None:
        detail = {
            "integration_id": credential.integration_id,
            "credential": credential.name,
            "method": credential.method,
        }
        await audit.record(
            session,
            audit.Audit(
                action=action,
                subject=credential.integration_id,
                caller=caller,
                time=self._clock.now(),
                detail=detail,
                reason=reason,
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


def _granted_to(row: Mapping[str, Any] | RowMapping) -> tuple[Any, ...]:
    """Whom a person let in, where, and for what: a refresh token belongs to that."""
    return (*(row[name] for name in ("grant", "client_id", "token_url")), list(row["scopes"]))


def _check_written(row: Any) -> None:
    """A credential that is gone or another one by now gets no token, and nobody is told of one."""
    if row is None:
        raise SuiteError("credential.refresh-failed", "The credential was changed meanwhile; ask again.")


def _given(secrets: Secrets) -> dict[str, bytes]:
    given = {"secret": secrets.secret, "second": secrets.second}
    return {field: value.encode() for field, value in given.items() if value is not None}


async def _seal(
    session: AsyncSession, keys: TenantKeys, credential: Credential, plain: Mapping[str, bytes]
) -> dict[str, Any]:
    """The columns of values sealed anew. The version of each rises by one every time and is authenticated: an older
    ciphertext put back does not open under the version that the row states."""
    if not plain:
        return {}
    # Locked: a secret and a token that are kept at once would else lose each other's version.
    present = select(_TABLE.c.sealed_versions).where(*_is(credential)).with_for_update()
    stated = dict((await session.execute(present)).scalar_one_or_none() or {})
    sealed: dict[str, Any] = {}
    for field, value in plain.items():
        stated[field] = stated.get(field, 1) + 1
        sealed[f"sealed_{field}"] = keys.seal(value, record=credential.record, field=field, version=stated[field])
    return {**sealed, "sealed_versions": stated}


def _is(credential: Credential) -> tuple[Any, ...]:
    return (
        _TABLE.c.tenant == credential.tenant,
        _TABLE.c.integration_id == credential.integration_id,
        _TABLE.c.name == credential.name,
    )


def _credential(row: Any) -> Credential:
    state = TokenState(
        row["obtained_at"],
        row["expires_at"],
        row["failures"],
        row["retry_at"],
        row["error_code"],
        row["token_sha256"],
        row["reconnect"],
        row["unanswered"],
    )
    plain = {name: row[name] for name in _PLAIN} | {"vendor": Vendor(row["vendor"])}
    credential = Credential(
        **plain,
        scopes=tuple(row["scopes"]),
        secret_set=row["sealed_secret"] is not None,
        secret_expires_at=row["secret_expires_at"],
        changed_at=row["changed_at"],
        version=row["version"],
        grant=Grant(row["grant"]),
        options=row["options"],
        second_set=row["sealed_second"] is not None,
        connected=row["sealed_refresh"] is not None,
    )
    return replace(credential, token=state, tested_at=row["tested_at"])
