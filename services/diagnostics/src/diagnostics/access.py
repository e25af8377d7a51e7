"""Who may call diagnostics: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import OPERATE, READ_STATE, Access

ACCESS: Final = (
    Access("GET", "/exchanges", READ_STATE),
    Access("GET", "/exchanges/{exchange_id}", READ_STATE),
    Access("POST", "/connection-tests", OPERATE),
    Access("GET", "/connection-tests", READ_STATE),
    Access("GET", "/connection-tests/{test_id}", READ_STATE),
)
