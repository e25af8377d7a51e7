"""What the use cases of alerts need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from alerts.core.life_cycle import Alert
from alerts.core.webhook import Attempt, Delivery
from common.models.events import AlertEvent
from common.models.paging import Page
from common.runtime.authentication import Caller

Session = Any
"""A transaction of the store."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of alerts by HTTP; its secret is sealed and shown once."""

    id: str
    tenant: str
    url: str
    description: str
    enabled: bool
    created_at: datetime
    version: int


class AlertStore(Protocol):
    """Alerts and the tenants' rule settings; what takes a session runs in it."""

    async def lock(self, session: Session) -> None:
        """One evaluation at a time over all replicas, until the session ends."""

    async def any_live(self, rules: Sequence[str]) -> bool:
        """Whether an alert of these rules is not resolved."""

    async def live(self, session: Session, tenants: Sequence[str] | None) -> dict[tuple[str, str, str, str], Alert]:
        """Alerts that are not resolved, by (tenant, rule, integration, subject); None: of all tenants."""

    async def save(self, session: Session, alerts: Sequence[Alert]) -> None:
        """Insert or update."""

    async def overrides(self, session: Session, tenants: Sequence[str]) -> dict[tuple[str, str], Mapping[str, Any]]:
        """What tenants have set, by (tenant, rule)."""


class Transactions(Protocol):
    """Where sessions come from."""

    def write(self) -> AbstractAsyncContextManager[Any]:
        """A transaction that commits at its end."""


class Announcer(Protocol):
    """Tells the world of alerts."""

    async def announce(self, session: Session, alert: Alert, kind: AlertEvent) -> None:
        """The event and one delivery per webhook, in the given transaction."""

    def watchdog(self) -> None:
        """Says that alerting is alive; may be lost."""


class DeliveryQueue(Protocol):
    """Deliveries to webhooks."""

    async def due(self, now: datetime, limit: int) -> Sequence[tuple[Delivery, Webhook, bytes]]:
        """Deliveries whose time has come, oldest first, with webhook and signing key."""

    async def settle(self, delivery_id: str, changed: Mapping[str, Any]) -> None:
        """Keep how an attempt ended."""


class Sender(Protocol):
    """Sends one attempt."""

    async def send(self, webhook: Webhook, delivery_id: str, body: bytes, key: bytes) -> Attempt:
        """Never raises for what the receiver does."""


class AlertBook(Protocol):
    """What the API reads and changes about alerts and rules."""

    async def search(
        self, tenant: str, state: str | None, integration_id: str | None, cursor: str | None, limit: int
    ) -> Page[Alert]:
        """Newest first; pending ones are not shown."""

    async def get(self, tenant: str, alert_id: str) -> Alert:
        """Raises SuiteError `alert.not-found`."""

    async def acknowledge(self, tenant: str, alert_id: str, caller: Caller) -> Alert:
        """Raises SuiteError `alert.not-found`, or `request.conflict` for a resolved one."""

    async def rule_overrides(self, tenant: str) -> dict[str, Mapping[str, Any]]:
        """What the tenant has set, by rule."""

    async def change_rule(
        self, caller: Caller, rule: str, changed: Mapping[str, Any], version: int
    ) -> Mapping[str, Any]:
        """Set `enabled` or `threshold`; raises SuiteError `request.version-changed` when somebody was quicker."""


class WebhookBook(Protocol):
    """What the API reads and changes about webhooks."""

    async def add(self, caller: Caller, url: str, description: str) -> tuple[Webhook, str]:
        """The webhook, and its secret, which is never shown again."""

    async def get(self, tenant: str, webhook_id: str) -> Webhook:
        """Raises SuiteError `webhook.not-found`."""

    async def list(self, tenant: str) -> Sequence[Webhook]:
        """By time of creation."""

    async def change(self, caller: Caller, webhook: Webhook, changed: Mapping[str, Any]) -> Webhook:
        """Set url, description or enabled; raises SuiteError `request.version-changed`."""

    async def remove(self, caller: Caller, webhook_id: str) -> None:
        """Raises SuiteError `webhook.not-found`; deliveries that wait are dropped with it."""

    async def signing_key(self, webhook: Webhook) -> bytes:
        """The key, unsealed."""

    async def deliveries(self, tenant: str, webhook_id: str, cursor: str | None, limit: int) -> Page[Delivery]:
        """Newest first."""
