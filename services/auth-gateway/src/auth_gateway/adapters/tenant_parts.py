"""What auth-gateway holds of a practice."""

from __future__ import annotations

from typing import Final

from auth_gateway.adapters.tables import Base
from common.runtime.tenant_data import TenantPart, parts_of

WITHOUT: Final = (
    "tenant", "tenant_key", "used_assertion", "fleet_outbox", "offboarding", "offboarding_file", "offboarding_chunk",
)  # fmt: skip
"""The practice's name and the story of its end stay; its data keys are destroyed first and by themselves; the others
hold nothing of a practice."""


def tenant_parts() -> tuple[TenantPart, ...]:
    """Configuration, its versions, changes, credentials without secrets, launches, expiries, accesses."""
    return parts_of(Base.metadata, without=WITHOUT)
