"""Oracle Health (Cerner) Millennium: its URNs, its requests, and what is peculiar to its answers.

Why a token was refused stands only in `error_uri`, as a URN after `oauth2:token:`; the same for a launch, after
`smart-v1:grant:launch:`. Older servers write underscores and extra colons, so URNs are compared by letters and digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote

from pms.fhir import FHIR_JSON, FhirRequest
from pms.source import Source

CORRELATION_HEADER: Final = "Cerner-Correlation-ID"
CODE_SET_APPOINTMENT_TYPE: Final = 14249
CODE_SET_ENCOUNTER_TYPE: Final = 71
SLOT_COUNT_MIN: Final = 5
SLOT_COUNT_MAX: Final = 200
SLOT_COUNT_DEFAULT: Final = 50
JSON_PATCH: Final = "application/json-patch+json"
_URI_CHARACTERS_MAX: Final = 4_000


@dataclass(frozen=True, slots=True)
class Urn:
    """One URN: `suffixes` as they end it, `name` in our signatures, what it means, whose catalogue rows it settles."""

    name: str
    oauth_error: str
    suffixes: tuple[str, ...]
    meaning: str
    next_step: str
    faults: tuple[str, ...] = ()
    source: Source = Source.LIVE_CAPTURE


TOKEN_URNS: Final[tuple[Urn, ...]] = (
    Urn(
        "authorization-header", "invalid_client", ("invalid-authorization-header",),
        "The Basic header is absent or malformed.", "Use client_secret_basic, and put the client id and secret again.",
        ("A2",),
    ),
    Urn(
        "client-credentials", "invalid_client", ("invalid-client-credentials",),
        "The secret is wrong.", "Copy the secret from the vendor's portal and put the credential again.", ("A1", "A2"),
    ),
    Urn(
        "assertion-signature", "invalid_client", ("client-assertion:jwt-bearer:invalid-signature",),
        "Our JWKS is not registered, or the key is another one.",
        "Register our JWKS URL in the vendor's portal and check that it answers from outside.", ("A5",),
    ),
    Urn(
        "client-terminated", "invalid_client", ("terminated-client",),
        "The app is disabled.", "Ask Oracle Health why the app was terminated.", ("A12",),
    ),
    Urn(
        "tenant-unknown", "invalid_grant", ("invalid-tenant",),
        "The tenant (Millennium domain) is wrong or misspelt.",
        "Compare the tenant id in the token URL and in the FHIR base with the one the PMS administrator gives.",
        ("F5",),
    ),
    Urn(
        "tenant-not-configured", "invalid_grant",
        ("grant:tenant-not-configured", "grant:unauthorized-client-for-tenant"),
        "The client is not enabled in this tenant.",
        "Ask the PMS administrator to enable the app in this tenant; other tenants may work meanwhile.", ("F5",),
    ),
    Urn(
        "grant-stale", "invalid_grant",
        ("code-invalid-or-expired", "refresh-token:token-invalid", "refresh-token:session-invalid"),
        "The code or refresh token is used up, revoked, or idle for three months.",
        "Have a person log in again.", ("A9", "A10"),
    ),
    Urn(
        "scopes-empty", "invalid_scope", ("empty-scopes",),
        "None of the scopes asked for is granted: none was asked, or SMART v1 scopes (.read) were asked of a v2 app.",
        "Ask for v2 scopes (.r to read, .rs to search) that the app is registered for.", ("F8", "A11"),
    ),
)  # fmt: skip

LAUNCH_URNS: Final[tuple[Urn, ...]] = tuple(
    Urn(f"launch-{name}", "invalid_request", (f"smart-v1:grant:launch:{name}",), meaning, step, faults)
    for name, meaning, step, faults in (
        ("audience-required", "The authorization request has no aud.", "Send aud = the FHIR base (iss).", ("F4",)),
        ("launch-code-required", "The launch scope was asked without the launch parameter.",
         "Pass on the launch value that the EHR gave.", ("F4",)),
        ("invalid-code", "The launch value is unknown, used or too old.", "Launch again from PowerChart.", ("F4",)),
        ("unknown-resource-server", "aud names a FHIR server that this authorization server does not know.",
         "Use the iss of the launch as aud, as it stands.", ("F4", "B14")),
        ("mismatched-identity", "Another user is logged in than the one who launched.",
         "Log out everywhere, then launch again.", ("F4",)),
        ("unsupported-version", "The launch's version is not supported.",
         "Have the launch template use SMART v1.", ("F4", "F7")),
        ("unregistered-service", "The service that launched is not registered.",
         "Ask Oracle Health to register the service in this tenant.", ("F4", "F5")),
        ("audience-not-white-listed", "The FHIR server in aud is not on the app's list.",
         "Have the FHIR server added to the app's registration.", ("F4",)),
    )
)  # fmt: skip


def _loose(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


_LOOSE: Final = tuple((_loose(suffix), row) for row in (*LAUNCH_URNS, *TOKEN_URNS) for suffix in row.suffixes)


def urn_of(error_uri: str) -> Urn | None:
    """The row of an `error_uri` (percent-encoded or not), None when its URN is not known."""
    # What stands before the URN's own part ("/errors/") and after it ("/instances/…?client=…") says nothing of why.
    path = unquote(error_uri[:_URI_CHARACTERS_MAX]).partition("?")[0].partition("/instances/")[0]
    text = _loose(path)
    return next((row for suffix, row in _LOOSE if suffix in text), None)


def instance_of(error_uri: str) -> str | None:
    """The instance id of an `error_uri`, which is also the correlation id that Oracle Health asks for."""
    found = re.search(r"/instances/([A-Za-z0-9-]{8,64})(?:[/?#]|$)", error_uri[:_URI_CHARACTERS_MAX])
    return found.group(1) if found else None


_TENANT: Final = re.compile(r"/tenants/([A-Za-z0-9_-]{1,100})(?:/|$)|/r4/([0-9a-fA-F-]{36})(?:/|$)")


def tenant_of(url: str) -> str | None:
    """The tenant in a token URL (`/tenants/{tenant}/`) or in a FHIR base (`/r4/{tenant}`), None when there is none."""
    found = _TENANT.search(url[:_URI_CHARACTERS_MAX].partition("?")[0])
    return (found.group(1) or found.group(2)) if found else None


def code_set_system(tenant: str, number: int) -> str:
    """The system of a proprietary coding; its codes mean something in that tenant only."""
    return f"https://fhir.cerner.com/{tenant}/codeSet/{number}"


def code_set_of(system: str) -> int | None:
    """The number of a proprietary code set, None for any other system."""
    found = re.fullmatch(r"https://fhir\.cerner\.com/[^/]{1,100}/codeSet/([0-9]{1,9})", system)
    return int(found.group(1)) if found else None


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("a window's ends need a time zone")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _window(name: str, start: datetime, end: datetime) -> tuple[tuple[str, str], tuple[str, str]]:
    if end <= start:
        raise ValueError("a window ends after its start")
    return (name, f"ge{_instant(start)}"), (name, f"lt{_instant(end)}")


_SUBJECTS: Final = frozenset({"patient", "practitioner", "location"})


def appointments(subject: str, ids: Sequence[str], start: datetime, end: datetime, *, count: int) -> FhirRequest:
    """Appointments of patients, practitioners or locations from `start` to before `end`.

    Raises ValueError for another subject, no id, an id with a comma, and a window that is empty or without zone.
    """
    if subject not in _SUBJECTS:
        raise ValueError(f"an appointment is searched by one of {', '.join(sorted(_SUBJECTS))}")
    if not ids or any(not one or "," in one for one in ids):
        raise ValueError("an id list needs ids without commas")
    query = ((subject, ",".join(ids)), *_window("date", start, end), ("_count", str(count)))
    return FhirRequest("Appointment.search", "GET", "Appointment", query)


def slots(service_types: Sequence[str], start: datetime, end: datetime, *, count: int) -> FhirRequest:
    """Free slots of service types (`system|code`); raises ValueError for a count outside 5 to 200, or no type."""
    if not SLOT_COUNT_MIN <= count <= SLOT_COUNT_MAX:
        raise ValueError(f"_count of Slot is {SLOT_COUNT_MIN} to {SLOT_COUNT_MAX}")
    if not service_types:
        raise ValueError("Slot is searched by service-type")
    query = (("service-type", ",".join(service_types)), *_window("start", start, end), ("_count", str(count)))
    return FhirRequest("Slot.search", "GET", "Slot", query)


def encounters_changed(patient_ids: Sequence[str], since: datetime, *, count: int) -> FhirRequest:
    """Encounters of patients changed since an instant."""
    if not patient_ids or any(not one or "," in one for one in patient_ids):
        raise ValueError("an id list needs ids without commas")
    query = (("patient", ",".join(patient_ids)), ("_lastUpdated", f"ge{_instant(since)}"), ("_count", str(count)))
    return FhirRequest("Encounter.search", "GET", "Encounter", query)


def patch(resource: str, resource_id: str, operations: Sequence[Mapping[str, Any]], *, version: str) -> FhirRequest:
    """A JSON Patch (RFC 6902) of one version: without If-Match the answer is 412, with a stale one 409."""
    if not version:
        raise ValueError("a patch names the version it changes")
    headers = {"Accept": FHIR_JSON, "Content-Type": JSON_PATCH, "If-Match": f'W/"{version}"'}
    body = json.dumps(list(operations), ensure_ascii=False).encode()
    return FhirRequest(f"{resource}.patch", "PATCH", f"{resource}/{quote(resource_id, safe='')}", (), headers, body)


def fresh(resources: Iterable[Mapping[str, Any]], seen: set[str]) -> list[Mapping[str, Any]]:
    """Those whose id has not been seen; ids repeat across pages. `seen` is added to; without an id: always fresh."""
    found = []
    for resource in resources:
        one = resource.get("id")
        if isinstance(one, str):
            if one in seen:
                continue
            seen.add(one)
        found.append(resource)
    return found


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status that has a meaning of its own when an appointment is changed."""

    status: int
    name: str
    meaning: str
    next_step: str


PATCH_REFUSALS: Final[tuple[Refusal, ...]] = (
    Refusal(409, "version-stale", "The version named is not the newest.", "Read it again and decide anew."),
    Refusal(412, "if-match-missing", "If-Match is missing.", "Report it: every patch of ours names a version."),
    Refusal(
        422,
        "codings-mixed",
        "Standard and proprietary codings are mixed.",
        "Send the codings of one kind: a value map.",
    ),
    Refusal(423, "locked", "Somebody has it open in PowerChart.", "Try again in some minutes."),
    Refusal(424, "dependency-failed", "Something that it depends on failed.", "Look at it in PowerChart."),
)
