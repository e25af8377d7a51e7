"""OperationOutcomes as Epic writes them: a code of its own system beside FHIR's issue type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

CODE_SYSTEM: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.2.657369"


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One outcome: HTTP status, FHIR severity and issue type, Epic's code, its display, and the diagnostics."""

    status: int
    severity: str
    type: str
    code: str
    display: str
    diagnostics: str | None = None


OUTCOMES: Final[dict[str, OutcomeRow]] = {
    "no-results": OutcomeRow(200, "warning", "processing", "4101", "Resource request returns no results."),
    "parameter-missing": OutcomeRow(400, "fatal", "required", "4111", "A required parameter is missing."),
    "parameter-conflict": OutcomeRow(400, "fatal", "invalid", "4112", "The parameters contradict each other."),
    "paging-expired": OutcomeRow(400, "fatal", "processing", "4113", "The paging session has expired or is not known."),
    "try-tomorrow": OutcomeRow(
        400, "fatal", "processing", "4135", "This group was exported less than 24 hours ago. Try again tomorrow."
    ),
    "id-not-found": OutcomeRow(
        404, "fatal", "not-found", "59008", "The FHIR ID provided was not found.", "Invalid FHIR ID provided"
    ),
    "element-missing": OutcomeRow(400, "fatal", "required", "59108", "A required element is missing."),
    "element-invalid": OutcomeRow(400, "fatal", "value", "59111", "A required element is invalid."),
    "demographics-required": OutcomeRow(
        400, "fatal", "processing", "59159", "The patient search needs demographics or an _id."
    ),
    "not-supported": OutcomeRow(405, "fatal", "not-supported", "59177", "This interaction is not offered."),
}


def outcome(name: str) -> dict[str, Any]:
    """The OperationOutcome of a row."""
    row = OUTCOMES[name]
    issue: dict[str, Any] = {
        "severity": row.severity,
        "code": row.type,
        "details": {
            "coding": [{"system": CODE_SYSTEM, "code": row.code, "display": row.display}],
            "text": row.display,
        },
    }
    if row.diagnostics:
        issue["diagnostics"] = row.diagnostics
    return {"resourceType": "OperationOutcome", "issue": [issue]}
