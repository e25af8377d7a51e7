"""Who may call the HL7 gateway: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import READ_RECORDS, READ_STATE, SERVICES, Access, Role

ACCESS: Final = (
    Access("POST", "/messages:search", READ_RECORDS),
    Access("POST", "/messages:read", SERVICES),
    Access("GET", "/messages/{message_id}", READ_RECORDS | {Role.OPERATOR}),
    Access("POST", "/messages/{message_id}:read-body", frozenset({Role.PHI_REVIEWER})),
    Access("GET", "/listeners", READ_STATE),
)
