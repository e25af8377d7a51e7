"""What alerts holds of a practice."""

from __future__ import annotations

from typing import Final

from alerts.adapters.tables import Base
from common.runtime.tenant_data import TenantPart, by_tenant, parts_of

_TABLES: Final = Base.metadata.tables
WITHOUT: Final[tuple[str, ...]] = ()


def tenant_parts() -> tuple[TenantPart, ...]:
    """Rules, alerts, webhooks without their signing keys, deliveries with what was sent."""
    return parts_of(Base.metadata, by_tenant(_TABLES["delivery"], opens={"body": None}), without=WITHOUT)
