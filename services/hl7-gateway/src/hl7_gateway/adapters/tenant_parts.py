"""What the HL7 gateway holds of a practice.

Bodies of received messages lie in the intake, which knows no practice's order: they are found by the messages' rows. A
body that was never catalogued has no row; it stays sealed, by a key that is destroyed, until its time is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from common.models.errors import SuiteError
from common.runtime.keyring import KeyRing, TenantKeys
from common.runtime.tenant_data import Row, TenantPart, body_json, by_parent, by_tenant, parts_of
from hl7_gateway.adapters.tables import Base

_TABLES: Final = Base.metadata.tables
PAGE_BODIES: Final = 20
"""A body may be a document of megabytes."""
WITHOUT: Final[tuple[str, ...]] = ()


class Bodies(Protocol):
    """The intake, as far as it is needed here."""

    async def bodies(self, sequences: Sequence[int]) -> Mapping[int, bytes]:
        """The sealed bodies that are still kept, by sequence."""

    async def erase_bodies(self, sequences: Sequence[int]) -> None:
        """Delete them, whatever their age."""


def tenant_parts(keyring: KeyRing, intake: Bodies) -> tuple[TenantPart, ...]:
    """Messages with their bodies, connections without their private keys, queues, replays, edits, profiles."""

    async def read(tenant: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        keys = await keyring.tenant(tenant)
        kept = await intake.bodies([row["sequence"] for row in rows if row["sequence"] is not None])
        return [_body(keys, row, row["sealed_body"] or kept.get(row["sequence"])) for row in rows]

    async def forget(_: str, rows: Sequence[Row]) -> None:
        await intake.erase_bodies([row["sequence"] for row in rows if row["sequence"] is not None])

    def sent(keys: TenantKeys, row: Row) -> bytes:
        return keys.open(row["sealed_body"], record=row["id"], field="outbound")

    connection = _TABLES["connection"]
    return parts_of(
        Base.metadata,
        by_parent(_TABLES["connection_counter"], "connection_id", connection, "id"),
        by_parent(_TABLES["connection_link"], "connection_id", connection, "id"),
        by_parent(_TABLES["outbound_attempt"], "sequence", _TABLES["outbound_message"], "sequence"),
        by_tenant(_TABLES["message"], added=read, first=forget, page_rows=PAGE_BODIES),
        by_tenant(_TABLES["outbound_message"], keys=keyring.tenant, opens={"sealed_body": sent}, page_rows=PAGE_BODIES),
        without=WITHOUT,
    )


def _body(keys: TenantKeys, row: Row, sealed: bytes | None) -> dict[str, Any]:
    if sealed is None:
        return {"body": None}
    try:
        return {"body": body_json(keys.open(sealed, record=row["id"], field="body"))}
    except SuiteError as error:  # one body that was altered does not hold up the others
        return {"body": None, "error_code": error.code}
