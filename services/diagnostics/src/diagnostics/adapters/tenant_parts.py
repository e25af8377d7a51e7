"""What diagnostics holds of a practice."""

from __future__ import annotations

from typing import Final

from common.runtime.tenant_data import TenantPart, parts_of
from diagnostics.adapters.tables import Base

WITHOUT: Final[tuple[str, ...]] = ()


def tenant_parts() -> tuple[TenantPart, ...]:
    """Exchanges and connection tests."""
    return parts_of(Base.metadata, without=WITHOUT)
