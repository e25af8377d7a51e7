"""Who may call the simulator: one row per route. The vendor's own interface authenticates by itself."""

from __future__ import annotations

from typing import Final

from common.models.access import CONFIGURE, OPERATE, READ_STATE, Access

_VENDOR: Final = "the simulated vendor's own authentication (SMART Backend Services)"
_REST: Final = "the simulated vendor's own authentication (OAuth 2.0 client secret or client assertion)"
_UNITY: Final = "the simulated vendor's own authentication (Unity GetToken and GetUserAuthentication)"
VENDOR_METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")

ACCESS: Final = (
    Access("GET", "", READ_STATE),
    Access("GET", "/patients", READ_STATE),
    Access("GET", "/population", READ_STATE),
    *(
        row
        for scope in ("/practices/{name}/day", "/servers/{name}/day")
        for row in (
            Access("GET", scope, READ_STATE),
            Access("PUT", scope, OPERATE),
            Access("DELETE", scope, OPERATE),
            Access("GET", f"{scope}/events", READ_STATE),
        )
    ),
    Access("GET", "/clients", READ_STATE),
    Access("GET", "/clients/{client_id}", READ_STATE),
    Access("PUT", "/clients/{client_id}", CONFIGURE),
    Access("DELETE", "/clients/{client_id}", CONFIGURE),
    Access("GET", "/faults", READ_STATE),
    Access("GET", "/faults/{name}", READ_STATE),
    Access("PUT", "/faults/{name}", OPERATE),
    Access("DELETE", "/faults/{name}", OPERATE),
    Access("GET", "/servers", READ_STATE),
    Access("POST", "/servers", CONFIGURE),
    Access("GET", "/servers/{name}", READ_STATE),
    Access("DELETE", "/servers/{name}", CONFIGURE),
    Access("POST", "/servers/{name}/launches", OPERATE),
    Access("GET", "/servers/{name}/launch-template", READ_STATE),
    Access("GET", "/servers/{name}/faults", READ_STATE),
    Access("DELETE", "/servers/{name}/faults", OPERATE),
    Access("PUT", "/servers/{name}/faults/{fault}", OPERATE),
    Access("DELETE", "/servers/{name}/faults/{fault}", OPERATE),
    Access("GET", "/authority", READ_STATE),
    Access("GET", "/toxics", READ_STATE),
    Access("GET", "/proxies", READ_STATE),
    Access("POST", "/proxies", CONFIGURE),
    Access("GET", "/proxies/{name}", READ_STATE),
    Access("PATCH", "/proxies/{name}", OPERATE),
    Access("DELETE", "/proxies/{name}", CONFIGURE),
    Access("PUT", "/proxies/{name}/toxics/{toxic}", OPERATE),
    Access("DELETE", "/proxies/{name}/toxics/{toxic}", OPERATE),
    Access("POST", "/hl7:send", OPERATE),
    Access("GET", "/feeds", READ_STATE),
    Access("GET", "/feeds/{name}", READ_STATE),
    Access("PUT", "/feeds/{name}", OPERATE),
    Access("DELETE", "/feeds/{name}", OPERATE),
    Access("GET", "/receiver", READ_STATE),
    Access("GET", "/receiver/messages", READ_STATE),
    Access("DELETE", "/receiver/messages", OPERATE),
    Access("GET", "/epic/{tenant}/oauth2/authorize", frozenset(), _VENDOR),
    Access("GET", "/cerner/{name}/mpage/{script}", frozenset(), _REST),
    Access("POST", "/epic/{tenant}/oauth2/token", frozenset(), _VENDOR),
    Access("POST", "/epic/{tenant}/oauth2/site/token", frozenset(), _VENDOR),
    *(Access(method, "/epic/{tenant}/{path:path}", frozenset(), _VENDOR) for method in VENDOR_METHODS),
    Access("POST", "/cerner/{name}/tenants/{millennium}/protocols/oauth2/profiles/smart-v1/token", frozenset(), _REST),
    *(Access(method, "/cerner/{name}/{path:path}", frozenset(), _REST) for method in VENDOR_METHODS),
    Access("POST", "/fhir/{name}/token", frozenset(), _REST),
    *(Access(method, "/fhir/{name}/{path:path}", frozenset(), _REST) for method in VENDOR_METHODS),
    *(Access(method, "/unity/{name}/{path:path}", frozenset(), _UNITY) for method in VENDOR_METHODS),
)
