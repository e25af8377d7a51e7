"""What sync holds of a practice."""

from __future__ import annotations

from typing import Final

from common.runtime.keyring import KeyRing, TenantKeys
from common.runtime.tenant_data import Row, TenantPart, by_parent, by_tenant, parts_of
from sync.adapters.tables import Base

_TABLES: Final = Base.metadata.tables
WITHOUT: Final[tuple[str, ...]] = ()


def tenant_parts(keyring: KeyRing) -> tuple[TenantPart, ...]:
    """Records with their versions, identifiers and links, runs, schedules; the quarantine opened."""

    def rejected(keys: TenantKeys, row: Row) -> bytes:
        return keys.open(row["body"], record=row["id"], field="body")

    return parts_of(
        Base.metadata,
        by_parent(_TABLES["run_seen"], "run_id", _TABLES["run"], "id"),
        by_tenant(_TABLES["quarantine"], keys=keyring.tenant, opens={"body": rejected}),
        without=WITHOUT,
    )
