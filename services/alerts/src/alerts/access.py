"""Who may call alerts: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import CONFIGURE, OPERATE, READ_STATE, Access

ACCESS: Final = (
    Access("GET", "/rules", READ_STATE),
    Access("GET", "/rules/{rule}", READ_STATE),
    Access("PATCH", "/rules/{rule}", CONFIGURE),
    Access("GET", "/alerts", READ_STATE),
    Access("GET", "/alerts/{alert_id}", READ_STATE),
    Access("POST", "/alerts/{alert_id}:acknowledge", OPERATE),
    Access("POST", "/webhooks", CONFIGURE),
    Access("GET", "/webhooks", READ_STATE),
    Access("GET", "/webhooks/{webhook_id}", READ_STATE),
    Access("PATCH", "/webhooks/{webhook_id}", CONFIGURE),
    Access("DELETE", "/webhooks/{webhook_id}", CONFIGURE),
    Access("POST", "/webhooks/{webhook_id}:test", OPERATE),
    Access("GET", "/webhooks/{webhook_id}/deliveries", READ_STATE),
)
