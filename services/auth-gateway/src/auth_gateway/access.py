"""Who may call auth-gateway: one row per route."""

from __future__ import annotations

from typing import Final

from common.models.access import (
    ANY_ROLE,
    AUDIT,
    CONFIGURE,
    OPERATE,
    PLATFORM,
    READ_STATE,
    SERVICES,
    TENANT_ROLES,
    Access,
    Role,
)

ADMINS: Final = frozenset({Role.TENANT_ADMIN})

_INTEGRATION: Final = "/integrations/{integration_id}"
_CHANNEL: Final = _INTEGRATION + "/channels/{name}"
_CHANGE: Final = "/changes/{change_id}"
_CREDENTIAL: Final = _INTEGRATION + "/credentials/{name}"

ACCESS: Final = (
    Access("GET", "/me", ANY_ROLE),
    Access("POST", "/token", frozenset(), "authenticates by the service assertion in its form (RFC 8693)"),
    Access("GET", "/issuer/jwks.json", frozenset(), "public keys of the suite's own tokens"),
    Access("POST", "/issuer:rotate", PLATFORM),
    Access(
        "GET", "/tenants/{tenant_id}/jwks.json", frozenset(), "public keys of a practice's client, read by its vendors"
    ),
    Access(
        "GET",
        "/tenants/{tenant_id}/{environment}/jwks.json",
        frozenset(),
        "public keys of a practice's client in an environment, read by its vendors",
    ),
    Access("GET", "/tenants/{tenant_id}/keys", SERVICES),
    Access("GET", "/platform/keys", PLATFORM),
    Access("POST", "/platform/keys:rotate", PLATFORM),
    Access("POST", "/platform/keys:rewrap", PLATFORM),
    Access("POST", "/tenants/{tenant_id}/keys:rotate", PLATFORM),
    Access("POST", "/tenants/{tenant_id}:suspend", PLATFORM),
    Access("POST", "/tenants/{tenant_id}:resume", PLATFORM),
    Access("POST", "/tenants/{tenant_id}:offboard", PLATFORM),
    *(
        Access("GET", f"/tenants/{{tenant_id}}/offboarding{rest}", PLATFORM | ADMINS, while_away=True)
        for rest in ("", "/manifest", "/files/{service}/{file}")
    ),
    Access("GET", "/fleet", PLATFORM),
    Access("POST", "/tenants", PLATFORM),
    Access("GET", "/tenants", PLATFORM),
    Access("POST", "/support-access", ADMINS),
    Access("GET", "/support-access", ADMINS | AUDIT | PLATFORM),
    Access("POST", "/support-access/{access_id}:revoke", ADMINS),
    Access("POST", "/support-access/{access_id}:token", PLATFORM),
    Access("POST", "/break-glass", TENANT_ROLES),
    Access("GET", "/break-glass", AUDIT),
    Access("POST", "/break-glass/{access_id}:review", AUDIT),
    Access("POST", "/integrations", CONFIGURE),
    Access("GET", "/integrations", READ_STATE),
    Access("GET", _INTEGRATION, READ_STATE),
    Access("PATCH", _INTEGRATION, CONFIGURE),
    Access("POST", _INTEGRATION + ":pause", OPERATE),
    Access("POST", _INTEGRATION + ":resume", OPERATE),
    Access("DELETE", _INTEGRATION, CONFIGURE),
    Access("POST", _INTEGRATION + ":delete-preview", CONFIGURE),
    Access("POST", _INTEGRATION + ":rollback", CONFIGURE),
    Access("POST", _INTEGRATION + ":promote", CONFIGURE),
    Access("GET", _INTEGRATION + "/versions", READ_STATE),
    Access("GET", _INTEGRATION + "/versions/{version}", READ_STATE),
    Access("POST", _INTEGRATION + "/versions:compare", READ_STATE),
    Access("POST", _INTEGRATION + ":require-change", SERVICES),
    Access("POST", "/changes", OPERATE),
    Access("GET", "/changes", READ_STATE),
    Access("GET", _CHANGE, READ_STATE),
    Access("PATCH", _CHANGE, OPERATE),
    *(Access("POST", f"{_CHANGE}:{step}", OPERATE) for step in ("apply", "verify", "roll-back", "withdraw")),
    Access("GET", "/signing-keys", READ_STATE),
    Access("POST", "/signing-keys:rotate", CONFIGURE),
    Access("POST", "/signing-keys:check", OPERATE),
    Access("POST", _INTEGRATION + ":readiness", OPERATE),
    Access("POST", _INTEGRATION + ":sign-off", CONFIGURE),
    Access("GET", "/vendors", READ_STATE),
    Access("GET", "/vendors/{vendor}", READ_STATE),
    Access("GET", _INTEGRATION + "/network-sheet", READ_STATE),
    Access("GET", _INTEGRATION + "/offers", READ_STATE),
    Access("PUT", _CHANNEL, CONFIGURE),
    Access("GET", _CHANNEL, READ_STATE),
    Access("DELETE", _CHANNEL, CONFIGURE),
    Access("GET", _INTEGRATION + "/credentials", READ_STATE),
    Access("PUT", _CREDENTIAL, CONFIGURE),
    Access("GET", _CREDENTIAL, READ_STATE),
    Access("DELETE", _CREDENTIAL, CONFIGURE),
    Access("POST", _CREDENTIAL + ":test", OPERATE),
    Access("POST", _CREDENTIAL + ":refresh", OPERATE),
    Access("POST", _CREDENTIAL + ":token", SERVICES),
    Access("POST", _CREDENTIAL + ":lease", SERVICES),
    Access("POST", _CREDENTIAL + ":authorize", CONFIGURE),
    Access("GET", "/oauth/callback", frozenset(), "the vendor sends a browser here; its state is the proof"),
    Access("POST", _INTEGRATION + "/permissions:check", OPERATE),
    Access("GET", "/expiries", READ_STATE),
    Access("PUT", _CREDENTIAL + "/expiries/{kind}", CONFIGURE),
    Access("DELETE", _CREDENTIAL + "/expiries/{kind}", CONFIGURE),
    Access("GET", "/launch", frozenset(), "SMART launch URL: opened by the EHR in the user's browser"),
    Access("POST", "/launch", frozenset(), "SMART launch URL: opened by the EHR in the user's browser"),
    Access("GET", "/launches", READ_STATE),
    Access("POST", "/launches:check", CONFIGURE),
    Access("POST", "/vendors/cerner/ccl:check", OPERATE),
    Access("POST", "/vendors/unity/dictionaries:compare", OPERATE),
)
