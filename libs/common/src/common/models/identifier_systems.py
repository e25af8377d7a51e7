"""HL7 assigning authority → FHIR identifier system, so that both roads lead to the same patient.

A CX (PID-3) names its assigning authority by CX-4: namespace id, or universal id with its type (HL7 v2.5.1 §2.A.14,
§2.A.33). FHIR names it by `Identifier.system`, a URI. An integration carries rows that join the two; a universal id
of type ISO or UUID is a URN by itself and needs no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdentifierSystem:
    """One row: an assigning authority's namespace (empty: identifiers that name none) is this FHIR system."""

    assigning_authority: str
    system: str
    identifier_type: str = ""


def system_of(
    rows: Sequence[IdentifierSystem],
    namespace: str,
    universal_id: str = "",
    universal_id_type: str = "",
    identifier_type: str = "",
) -> str | None:
    """The FHIR identifier system of an assigning authority, None when no row names it (never a guess).

    A row with the identifier type (`MR`, `SS`, …) goes before one without; a row before a universal id.
    """
    # Who is named by a universal id alone is named: the row for identifiers without an authority is not meant.
    known = bool(namespace) or not universal_id
    named = [row for row in rows if known and row.assigning_authority.casefold() == namespace.casefold()]
    for row in named:
        if row.identifier_type and row.identifier_type == identifier_type:
            return row.system
    for row in named:
        if not row.identifier_type:
            return row.system
    if universal_id and universal_id_type.upper() == "ISO":
        return f"urn:oid:{universal_id}"
    if universal_id and universal_id_type.upper() in {"UUID", "GUID"}:
        return f"urn:uuid:{universal_id.lower()}"
    return None


def authority_of(rows: Sequence[IdentifierSystem], system: str) -> IdentifierSystem | None:
    """The row to write an identifier of this system into a CX, None when the integration names none."""
    return next((row for row in rows if row.system == system), None)
