"""Oracle Health (Cerner) Millennium as a FHIR server: what its searches demand, how it refuses, its codings.

Sources: docs/systems/cerner.md; what no source tells is marked "assumed".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simulator.core.answer import FHIR_JSON, Answer, json_answer
from simulator.core.dialect import Dialect, Interaction, Served, Site
from simulator.core.practice import VISIT_TYPE_SYSTEM
from simulator.core.search import Parameters, values_of

TOKEN_LIFE_S: Final = 570
SOFTWARE: Final = "Practice Studio Integration Simulator (Oracle-Health-like)"
PATIENT_REFUSAL: Final = (
    "at least one of _id, identifier, name, family, given, birthdate, phone, email, address-postalcode, or "
    "-pageContext must be provided"
)
_CODE_SET: Final = "https://fhir.cerner.com/{}/codeSet/{}"
_APPOINTMENT_TYPES: Final = 14249
_ENCOUNTER_TYPES: Final = 71
_READ_SEARCH: Final = frozenset({Interaction.READ, Interaction.SEARCH})
_CREATE_PATCH: Final = _READ_SEARCH | {Interaction.CREATE, Interaction.PATCH}
_PATIENT: Final = ("_id", "identifier", "name", "family", "given", "birthdate", "phone", "email", "address-postalcode")


def _any_of(*names: str) -> Any:
    def demand(parameters: Parameters) -> str | None:
        return None if any(parameters.get(name) for name in names) else f"one of {', '.join(names)} must be provided"

    return demand


def _patient_demand(parameters: Parameters) -> str | None:
    return None if any(parameters.get(name) for name in _PATIENT) else PATIENT_REFUSAL


def _both_ends(values: Any) -> bool:
    prefixes = {value[:2] for value in values}
    return {"ge", "lt"} <= prefixes


def _appointment_demand(parameters: Parameters) -> str | None:
    if values_of(parameters, "_id"):
        return None
    named = any(values_of(parameters, name) for name in ("patient", "practitioner", "location"))
    if named and _both_ends(parameters.get("date", ())):
        return None
    return "_id, or one of patient, practitioner, location together with date (ge and lt) must be provided"


def _slot_demand(parameters: Parameters) -> str | None:
    if values_of(parameters, "_id") or (parameters.get("service-type") and _both_ends(parameters.get("start", ()))):
        return None
    return "_id, or service-type together with start (ge and lt) must be provided"


def _refuse(kind: str, text: str, status: int) -> Answer:
    severity = "fatal" if status >= 500 else "error"
    issue = {"severity": severity, "code": kind, "details": {"text": text}}
    return json_answer(status, {"resourceType": "OperationOutcome", "issue": [issue]}, FHIR_JSON)


def _unauthorized(site: Site) -> Answer:
    challenge = (
        f'Bearer realm="{site.base_url}", error="invalid_token", '
        f'error_description="Invalid issuer. Expected {site.token_url}, received another"'
    )
    return Answer(401, headers={"WWW-Authenticate": challenge})


def _forbidden(_: Site) -> Answer:
    challenge = (
        'Bearer error="insufficient_scope", code="urn:cerner:error:oauth2:resource-access:insufficient-scopes", '
        'subcode="no_scope_for_resource_path"'
    )
    return Answer(403, headers={"WWW-Authenticate": challenge})


def tenant_refusal() -> Answer:
    """A FHIR URL of a tenant that is none."""
    return Answer(403, b"Tenant not valid or accessible", {"Content-Type": "text/plain"})


def _dress(site: Site, resource: dict[str, Any]) -> dict[str, Any]:
    """Visit types in the tenant's own code set; other codings stand as they are."""
    if resource["resourceType"] == "Appointment" and "appointmentType" in resource:
        own = resource["appointmentType"]
        coding = [
            {**one, "system": _CODE_SET.format(site.tenant, _APPOINTMENT_TYPES), "userSelected": True}
            if one.get("system") == VISIT_TYPE_SYSTEM
            else one
            for one in own["coding"]
        ]
        return {**resource, "appointmentType": {**own, "coding": coding}}
    if resource["resourceType"] == "Encounter":
        coding = [{"system": _CODE_SET.format(site.tenant, _ENCOUNTER_TYPES), "code": "309309", "userSelected": True}]
        return {**resource, "type": [{"coding": coding, "text": "Outpatient"}]}
    return resource


def _check(site: Site, resource: Mapping[str, Any]) -> str | None:
    """Proprietary codings and others do not go together in one concept."""
    for concept in (resource.get("appointmentType"), *(resource.get("serviceType") or ())):
        codings = concept.get("coding") if isinstance(concept, Mapping) else None
        systems = [one.get("system", "") for one in codings or () if isinstance(one, Mapping)]
        own = [one for one in systems if "fhir.cerner.com" in one]
        if own and len(own) != len(systems):
            return "Proprietary and standard codings are mixed."
        if any(f"/{site.tenant}/" not in one for one in own):
            return "A coding belongs to another tenant."
    return None


SERVED: Final[Mapping[str, Served]] = {
    "Account": Served(_READ_SEARCH, (("_id", "token"), ("patient", "reference")), _any_of("_id", "patient")),
    "Appointment": Served(
        _CREATE_PATCH,
        (
            ("_id", "token"), ("date", "date"), ("patient", "reference"), ("practitioner", "reference"),
            ("location", "reference"), ("status", "token"),
        ),
        _appointment_demand,
        ("status", "participant"),
    ),
    "ChargeItem": Served(_READ_SEARCH, (("_id", "token"), ("patient", "reference")), _any_of("_id", "patient")),
    "Coverage": Served(_READ_SEARCH, (("_id", "token"), ("patient", "reference")), _any_of("_id", "patient")),
    "Encounter": Served(
        _CREATE_PATCH,
        (("_id", "token"), ("patient", "reference"), ("date", "date")),
        _any_of("_id", "patient"),
        ("status", "class", "subject"),
    ),
    "Location": Served(_READ_SEARCH, (("_id", "token"), ("name", "string")), _any_of("_id", "name", "identifier")),
    "Patient": Served(
        _CREATE_PATCH, tuple((name, "string") for name in _PATIENT), _patient_demand, ("name", "birthDate")
    ),
    "Practitioner": Served(
        _READ_SEARCH,
        (("_id", "token"), ("family", "string"), ("identifier", "token"), ("name", "string")),
        _any_of("_id", "family", "identifier", "name"),
    ),
    "Slot": Served(
        _READ_SEARCH,
        (("_id", "token"), ("service-type", "token"), ("start", "date")),
        _slot_demand,
        page=(5, 50, 200),
    ),
}  # fmt: skip

CERNER: Final = Dialect(
    software=SOFTWARE,
    served=SERVED,
    dated=frozenset({"Encounter"}),
    page_parameter="-pageContext",
    repeats=True,
    refuse=_refuse,
    unauthorized=_unauthorized,
    forbidden=_forbidden,
    stale=409,
    unconditional=412,
    missing_field=500,
    dress=_dress,
    check=_check,
    export_pause_s=600,
    export_redirects=True,
    export_alone=True,
    scopes=tuple(f"system/{kind}.rs" for kind in SERVED),
)
