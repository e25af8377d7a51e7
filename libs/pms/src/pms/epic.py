"""Epic's codes inside an OperationOutcome, and the forms in which its servers refuse.

Code system `urn:oid:1.2.840.114350.1.13.<instance>.<n>.7.2.657369`: the instance differs per site, the codes do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.models.errors import Retry
from pms.fhir import Issue
from pms.source import Source

CODE_SYSTEM_SUFFIX: Final = ".7.2.657369"
CODE_SYSTEM_EXAMPLE: Final = "urn:oid:1.2.840.114350.1.13.0.1.7.2.657369"


@dataclass(frozen=True, slots=True)
class EpicCode:
    """One code: its name in our signatures, what it means, and what a repetition can do.

    `refuses` false: the answer holds and the code only remarks on it.
    """

    code: str
    name: str
    meaning: str
    retry: Retry
    refuses: bool = True
    source: Source = Source.LIVE_CAPTURE


_T, _N = Retry.TRANSIENT, Retry.PERMANENT

CODES: Final[dict[str, EpicCode]] = {
    row.code: row
    for row in (
        EpicCode("4101", "no-results", "The search found nothing.", _N, refuses=False),
        EpicCode("4107", "merged", "The record was merged into another one.", _N),
        EpicCode("4111", "parameter-missing", "A required parameter is missing.", _N),
        EpicCode("4112", "parameter-conflict", "Parameters contradict each other.", _N),
        EpicCode("4113", "paging-expired", "The paging session expired: begin the search again.", _T),
        EpicCode("4118", "not-authorized", "The user is not authorized for this.", _N),
        EpicCode("4119", "more-may-exist", "More data may exist than was returned.", _N, refuses=False),
        EpicCode("4130", "break-the-glass", "The record is behind break-the-glass: never retry.", _N),
        EpicCode("4131", "break-the-glass", "The record is behind break-the-glass: never retry.", _N),
        EpicCode("4134", "break-the-glass", "The record is behind break-the-glass: never retry.", _N),
        EpicCode("4135", "try-tomorrow", "Refused for today: try again tomorrow.", _N),
        EpicCode("59008", "id-not-found", "The FHIR id was not found.", _N),
        EpicCode("59100", "parameter-ignored", "An unknown parameter was ignored.", _N, refuses=False),
        EpicCode("59108", "element-missing", "A required element is missing.", _N),
        EpicCode("59111", "element-invalid", "A required element is invalid.", _N),
        EpicCode("59141", "duplicate", "The resource exists already.", _N),
        EpicCode("59144", "reference-not-found", "A referenced resource was not found.", _N),
        EpicCode("59159", "demographics-required", "Patient search needs demographics or _id.", _N),
        EpicCode("59177", "internal-error", "The server failed inside.", _T),
        EpicCode("59204", "partly-not-authorized", "Part of the data is not authorized.", _N, refuses=False),
    )
}


def code_of(issue: Issue) -> EpicCode | None:
    """The row of an issue's Epic code, None when it carries none that is known."""
    for system, code in issue.codes:
        row = CODES.get(code)
        if row is not None and (not system or system.endswith(CODE_SYSTEM_SUFFIX)):
            return row
    return None
