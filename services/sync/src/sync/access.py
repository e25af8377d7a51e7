"""Who may call sync: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import CONFIGURE, OPERATE, READ_RECORDS, READ_STATE, Access

ACCESS: Final = (
    Access("POST", "/runs", OPERATE),
    Access("GET", "/runs", READ_STATE),
    Access("GET", "/runs/{run_id}", READ_STATE),
    Access("POST", "/runs/{run_id}:cancel", OPERATE),
    Access("GET", "/records", READ_STATE),
    Access("POST", "/records/{record_type}:search", READ_RECORDS),
    Access("GET", "/records/{record_type}/{record_id}", READ_RECORDS),
    Access("GET", "/records/{record_type}/{record_id}/versions", READ_RECORDS),
    Access("POST", "/cross-references:search", READ_RECORDS),
    # Codes, rules and value classes only; the bodies are not shown here.
    Access("GET", "/quarantine", READ_STATE),
    Access("POST", "/schedules", CONFIGURE),
    Access("GET", "/schedules", READ_STATE),
    Access("GET", "/schedules/{schedule_id}", READ_STATE),
    Access("PATCH", "/schedules/{schedule_id}", CONFIGURE),
    Access("DELETE", "/schedules/{schedule_id}", CONFIGURE),
    Access("GET", "/mappings", READ_STATE),
    Access("GET", "/mappings/{integration_id}/{resource}", READ_STATE),
    Access("PUT", "/mappings/{integration_id}/{resource}", CONFIGURE),
    Access("GET", "/mappings/{integration_id}/{resource}/versions", READ_STATE),
    Access("GET", "/mappings/{integration_id}/{resource}/versions/{version}", READ_STATE),
    Access("GET", "/mappings/{integration_id}/{resource}/difference", READ_STATE),
    Access("POST", "/mappings/{integration_id}/{resource}:restore", CONFIGURE),
    Access("POST", "/mappings/{integration_id}/{resource}:test", CONFIGURE),
    Access("POST", "/mappings/{integration_id}/{resource}:dry-run", CONFIGURE),
    Access("GET", "/value-maps", READ_STATE),
    Access("GET", "/value-maps/{integration_id}/{kind}", READ_STATE),
    Access("GET", "/value-maps/{integration_id}/{kind}:export", READ_STATE),
    Access("PUT", "/value-maps/{integration_id}/{kind}", CONFIGURE),
    Access("POST", "/value-maps/{integration_id}/{kind}:import", CONFIGURE),
    Access("POST", "/value-maps/{integration_id}/{kind}:restore", CONFIGURE),
    Access("GET", "/value-maps/{integration_id}/{kind}/versions", READ_STATE),
    Access("GET", "/value-maps/{integration_id}/{kind}/versions/{version}", READ_STATE),
    Access("GET", "/value-maps/{integration_id}/{kind}/difference", READ_STATE),
    # Values as the PMS sent them: a row may have looked up a field that is about a patient.
    Access("GET", "/value-maps/{integration_id}/{kind}/unmapped", CONFIGURE | READ_RECORDS),
)
