"""Senders whose messages belonged to nobody, and what to add (HL7 > Connections)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from common.models.clock import instant_text
from common.models.errors import ERRORS
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from hl7_gateway.core.unmatched import Unmatched, UnmatchedSenders


def add_routes(api: APIRouter, unmatched: UnmatchedSenders) -> None:
    """Paths begin after /hl7/v1."""

    @api.get("/unmatched-senders", summary="HL7 senders that nobody takes messages of (HL7 > Connections)")
    async def list_unmatched(caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        """Those of this replica since it started, the latest first, each with the row that would take its messages."""
        return page_body([_json(row) for row in unmatched.of(caller.tenant)], None)


def _json(row: Unmatched) -> dict[str, Any]:
    add = {"application": row.application, "facility": row.facility}
    return {
        "connection_id": row.connection_id or None,
        "sending_application": row.application,
        "sending_facility": row.facility,
        "address": row.address,
        "error_code": row.code,
        "next_step": ERRORS[row.code].next_step,
        "add": {"allowed_peers": add} if row.connection_id else {"senders": add},
        "count": row.count,
        "first_at": instant_text(row.first_at),
        "last_at": instant_text(row.last_at),
    }
