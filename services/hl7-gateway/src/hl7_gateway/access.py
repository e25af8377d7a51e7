"""Who may call the HL7 gateway: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import CONFIGURE, OPERATE, READ_RECORDS, READ_STATE, SERVICES, Access, Role

_CONNECTION: Final = "/connections/{connection_id}"

ACCESS: Final = (
    Access("POST", "/messages:search", READ_RECORDS),
    Access("POST", "/messages:read", SERVICES),
    Access("GET", "/messages/{message_id}", READ_RECORDS | {Role.OPERATOR}),
    Access("POST", "/messages/{message_id}:read-body", frozenset({Role.PHI_REVIEWER})),
    Access("POST", "/messages/{message_id}:replay", OPERATE),
    Access("POST", "/messages/{message_id}:edit", frozenset({Role.PHI_REVIEWER})),
    Access("GET", "/messages/{message_id}/edits", READ_RECORDS | OPERATE),
    Access("POST", "/replays", CONFIGURE),
    Access("GET", "/replays", READ_STATE),
    Access("GET", "/replays/{replay_id}", READ_STATE),
    Access("POST", "/replays/{replay_id}:pause", OPERATE),
    Access("POST", "/replays/{replay_id}:resume", OPERATE),
    Access("POST", "/replays/{replay_id}:cancel", OPERATE),
    Access("GET", "/listeners", READ_STATE),
    Access("GET", "/unmatched-senders", READ_STATE),
    Access("POST", "/validate", READ_STATE),
    Access("POST", "/parse", READ_STATE),
    Access("POST", "/acknowledge", READ_STATE),
    Access("POST", "/profiles", CONFIGURE),
    Access("GET", "/profiles", READ_STATE),
    Access("GET", "/profiles/{name}", READ_STATE),
    Access("GET", "/profiles/{name}/versions", READ_STATE),
    Access("PUT", "/profiles/{name}", CONFIGURE),
    Access("DELETE", "/profiles/{name}", CONFIGURE),
    Access("POST", "/profiles/{name}:test", CONFIGURE),
    Access("POST", "/profiles:suggest", CONFIGURE),
    Access("POST", "/connections", CONFIGURE),
    Access("GET", "/connections", READ_STATE),
    Access("GET", _CONNECTION, READ_STATE),
    Access("GET", _CONNECTION + "/versions", READ_STATE),
    Access("PUT", _CONNECTION, CONFIGURE),
    Access("DELETE", _CONNECTION, CONFIGURE),
    Access("POST", _CONNECTION + ":pause", OPERATE),
    Access("POST", _CONNECTION + ":resume", OPERATE),
    Access("POST", _CONNECTION + ":disable", CONFIGURE),
    Access("POST", _CONNECTION + ":test", OPERATE),
    Access("POST", _CONNECTION + ":retry-parked", OPERATE),
    Access("POST", _CONNECTION + "/messages", CONFIGURE | SERVICES),
    Access("POST", "/outbound:search", READ_RECORDS | OPERATE),
    Access("GET", "/outbound/{message_id}", READ_RECORDS | OPERATE),
    Access("POST", "/outbound/{message_id}:retry", OPERATE),
    Access("POST", "/outbound/{message_id}:discard", OPERATE),
    Access("POST", "/outbound/{message_id}:edit", frozenset({Role.PHI_REVIEWER})),
    Access("GET", "/outbound/{message_id}/edits", READ_RECORDS | OPERATE),
)
