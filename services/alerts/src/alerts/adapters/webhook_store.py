"""Webhooks and their deliveries in the database; signing keys are sealed under the tenant's key."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Table, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from alerts.adapters.tables import DeliveryRow, WebhookRow
from alerts.core.webhook import Delivery, DeliveryState, message, secret_text
from alerts.ports import Webhook
from common.models.clock import Clock, Ids, instant_text, parse_instant
from common.models.errors import SuiteError
from common.models.paging import Page, decode_cursor, encode_cursor
from common.runtime import audit
from common.runtime.authentication import Caller
from common.runtime.database import Database
from common.runtime.keyring import KeyRing

_WEBHOOK: Final[Table] = WebhookRow.__table__  # type: ignore[attr-defined]
_DELIVERY: Final[Table] = DeliveryRow.__table__  # type: ignore[attr-defined]
_KEY_BYTES: Final = 32


class SqlWebhookStore:
    """`WebhookBook` and `DeliveryQueue`."""

    def __init__(self, database: Database, keyring: KeyRing, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._ids = ids

    async def add(self, caller: Caller, url: str, description: str) -> tuple[Webhook, str]:
        webhook = Webhook(self._ids.new("whk"), caller.tenant, url, description, True, self._clock.now(), 1)
        key = secrets.token_bytes(_KEY_BYTES)
        keys = await self._keyring.tenant(caller.tenant)
        sealed = keys.seal(key, record=webhook.id, field="signing-key")
        async with self._database.write() as session:
            values = {name: getattr(webhook, name) for name in Webhook.__slots__}
            await session.execute(insert(_WEBHOOK).values(**values, sealed_key=sealed))
            await self._audit(session, caller, "webhook.created", webhook.id)
        return webhook, secret_text(key)

    async def get(self, tenant: str, webhook_id: str) -> Webhook:
        async with self._database.read() as session:
            return _webhook(await self._row(session, tenant, webhook_id))

    async def list(self, tenant: str) -> Sequence[Webhook]:
        statement = select(_WEBHOOK).where(_WEBHOOK.c.tenant == tenant).order_by(_WEBHOOK.c.created_at, _WEBHOOK.c.id)
        async with self._database.read() as session:
            return [_webhook(row) for row in (await session.execute(statement)).mappings()]

    async def change(self, caller: Caller, webhook: Webhook, changed: Mapping[str, Any]) -> Webhook:
        statement = (
            update(_WEBHOOK)
            .where(
                _WEBHOOK.c.tenant == caller.tenant, _WEBHOOK.c.id == webhook.id, _WEBHOOK.c.version == webhook.version
            )
            .values(**changed, version=webhook.version + 1)
            .returning(_WEBHOOK)
        )
        async with self._database.write() as session:
            row = (await session.execute(statement)).mappings().first()
            if row is None:
                raise SuiteError("request.version-changed")
            await self._audit(session, caller, "webhook.changed", webhook.id)
        return _webhook(row)

    async def remove(self, caller: Caller, webhook_id: str) -> None:
        async with self._database.write() as session:
            await self._row(session, caller.tenant, webhook_id)
            await session.execute(delete(_DELIVERY).where(_DELIVERY.c.webhook_id == webhook_id))
            await session.execute(delete(_WEBHOOK).where(_WEBHOOK.c.id == webhook_id))
            await self._audit(session, caller, "webhook.removed", webhook_id)

    async def signing_key(self, webhook: Webhook) -> bytes:
        async with self._database.read() as session:
            row = await self._row(session, webhook.tenant, webhook.id)
        return await self._open(row)

    async def deliveries(self, tenant: str, webhook_id: str, cursor: str | None, limit: int) -> Page[Delivery]:
        columns = _DELIVERY.c
        statement = select(_DELIVERY).where(columns.tenant == tenant, columns.webhook_id == webhook_id)
        if cursor is not None:
            at, last_id = decode_cursor(cursor, (str, str))
            try:
                instant = parse_instant(at)
            except ValueError as error:
                raise SuiteError("request.bad-cursor") from error
            statement = statement.where(tuple_(columns.created_at, columns.id) < (instant, last_id))
        statement = statement.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit + 1)
        async with self._database.read() as session:
            await self._row(session, tenant, webhook_id)
            found = [_delivery(row) for row in (await session.execute(statement)).mappings()]
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Page(items, encode_cursor([instant_text(last.created_at), last.id]) if last else None)

    async def enqueue(self, session: AsyncSession, tenant: str, event_type: str, data: Mapping[str, Any]) -> int:
        """One delivery per enabled webhook of the tenant, in the given transaction; returns how many."""
        statement = select(_WEBHOOK.c.id).where(_WEBHOOK.c.tenant == tenant, _WEBHOOK.c.enabled.is_(True))
        webhooks = (await session.execute(statement)).scalars().all()
        if not webhooks:
            return 0
        now = self._clock.now()
        body = orjson.dumps(message(event_type, now, data))
        rows = [
            {
                "id": self._ids.new("dlv"),
                "tenant": tenant,
                "webhook_id": webhook_id,
                "event_type": event_type,
                "body": body,
                "state": DeliveryState.WAITING.value,
                "attempts": 0,
                "next_attempt_at": now,
                "created_at": now,
            }
            for webhook_id in webhooks
        ]
        await session.execute(insert(_DELIVERY), rows)
        return len(rows)

    async def due(self, now: datetime, limit: int) -> Sequence[tuple[Delivery, Webhook, bytes]]:
        columns = _DELIVERY.c
        statement = (
            select(_DELIVERY)
            .where(columns.state == DeliveryState.WAITING, columns.next_attempt_at <= now)
            .order_by(columns.next_attempt_at, columns.id)
            .limit(limit)
        )
        async with self._database.read() as session:
            deliveries = [_delivery(row) for row in (await session.execute(statement)).mappings()]
            wanted = {delivery.webhook_id for delivery in deliveries}
            rows = (
                (await session.execute(select(_WEBHOOK).where(_WEBHOOK.c.id.in_(wanted)))).mappings().all()
                if wanted
                else []
            )
        webhooks = {row["id"]: (_webhook(row), await self._open(row)) for row in rows}
        return [
            (delivery, *webhooks[delivery.webhook_id]) for delivery in deliveries if delivery.webhook_id in webhooks
        ]

    async def settle(self, delivery_id: str, changed: Mapping[str, Any]) -> None:
        async with self._database.write() as session:
            await session.execute(update(_DELIVERY).where(_DELIVERY.c.id == delivery_id).values(**changed))

    async def _row(self, session: AsyncSession, tenant: str, webhook_id: str) -> Any:
        statement = select(_WEBHOOK).where(_WEBHOOK.c.tenant == tenant, _WEBHOOK.c.id == webhook_id)
        row = (await session.execute(statement)).mappings().first()
        if row is None:
            raise SuiteError("webhook.not-found")
        return row

    async def _open(self, row: Any) -> bytes:
        keys = await self._keyring.tenant(row["tenant"])
        return keys.open(row["sealed_key"], record=row["id"], field="signing-key")

    async def _audit(self, session: AsyncSession, caller: Caller, action: str, subject: str) -> None:
        await audit.record(session, audit.Audit(action=action, subject=subject, caller=caller, time=self._clock.now()))


def _webhook(row: Any) -> Webhook:
    return Webhook(**{name: row[name] for name in Webhook.__slots__})


def _delivery(row: Any) -> Delivery:
    values = {name: row[name] for name in Delivery.__slots__}
    return Delivery(**{**values, "state": DeliveryState(values["state"])})
