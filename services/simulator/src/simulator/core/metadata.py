"""What the Epic-like server says about itself: CapabilityStatement and SMART configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from simulator.core.resources import instant

FHIR_VERSION: Final = "4.0.1"
ALGORITHMS: Final = ("RS384", "ES384")
SCOPES_OFFERED: Final = tuple(
    f"system/{name}.read" for name in ("Patient", "Appointment", "Practitioner", "Location", "Group")
)
_SEARCH_PARAMETERS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "Appointment": (
        ("_id", "token"), ("_count", "number"), ("date", "date"), ("identifier", "token"), ("patient", "reference"),
        ("practitioner", "reference"), ("location", "reference"), ("status", "token"),
    ),
    "Patient": (
        ("_id", "token"), ("birthdate", "date"), ("family", "string"), ("gender", "token"), ("given", "string"),
        ("identifier", "token"), ("name", "string"), ("telecom", "token"),
    ),
    "Practitioner": (
        ("_id", "token"), ("family", "string"), ("given", "string"), ("identifier", "token"), ("name", "string"),
    ),
    "Location": (("_id", "token"), ("name", "string")),
}  # fmt: skip


def capability_statement(base_url: str, token_url: str, now: datetime) -> dict[str, Any]:
    """R4 CapabilityStatement: read and search only, no _lastUpdated, no versioning, no Subscription."""
    resources: list[dict[str, Any]] = [
        {
            "type": name,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "versioning": "no-version",
            "searchParam": [{"name": parameter, "type": kind} for parameter, kind in parameters],
        }
        for name, parameters in _SEARCH_PARAMETERS.items()
    ]
    group = {
        "type": "Group",
        "interaction": [{"code": "read"}],
        "operation": [
            {"name": "group-export", "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export"}
        ],
    }
    oauth = {
        "extension": [{"url": "token", "valueUri": token_url}],
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(now),
        "publisher": "Practice Studio",
        "kind": "instance",
        "software": {"name": "Practice Studio Integration Simulator (Epic-like)", "version": "1"},
        "implementation": {"description": "Synthetic patients only", "url": base_url},
        "fhirVersion": FHIR_VERSION,
        "format": ["xml", "json"],
        "rest": [{"mode": "server", "security": {"extension": [oauth]}, "resource": [*resources, group]}],
    }


def in_version(statement: dict[str, Any], version: str | None) -> dict[str, Any]:
    """The statement as a server of another FHIR version would make it: DSTU2 calls it Conformance."""
    if version is None:
        return statement
    kind = "Conformance" if version.startswith("1.") else "CapabilityStatement"
    return {**statement, "resourceType": kind, "fhirVersion": version}


def smart_configuration(token_url: str) -> dict[str, Any]:
    """SMART App Launch 2.2, §10: what a backend service needs to find the token endpoint."""
    return {
        "token_endpoint": token_url,
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": list(SCOPES_OFFERED),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }
