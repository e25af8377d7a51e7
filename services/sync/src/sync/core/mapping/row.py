"""A field mapping as data: rows {target, source, transforms, default, required, note}; what checks and runs find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

ROWS_MAX: Final = 400
TRANSFORMS_MAX: Final = 10
SOURCE_CHARACTERS_MAX: Final = 500


class SourceKind(StrEnum):
    """What a source is, and so in which language its expressions are written."""

    FHIR = "fhir"
    HL7V2 = "hl7v2"
    UNITY = "unity"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class TransformUse:
    """A transform by name with its parameters, as a row uses it."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One row. A target ending in `[*]` makes an item of each value of its source; rows below it read that item."""

    target: str
    source: str = ""
    transforms: tuple[TransformUse, ...] = ()
    default: Any = None
    required: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """The mapping of one record type from one kind of source; `source_type` is the FHIR type, HL7 message or action."""

    record_type: str
    source_kind: SourceKind
    rows: tuple[MappingRow, ...]
    source_type: str = ""


@dataclass(frozen=True, slots=True)
class MappingFinding:
    """A mistake in a mapping: `row` counts from 1 (0: the mapping as a whole); `column` names the row's field."""

    row: int
    column: str
    code: str
    message: str
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class RecordFinding:
    """What a row could not take of a source: `rule` and the class of the value, never the value."""

    row: int
    target: str
    rule: str
    value_class: str


@dataclass(frozen=True, slots=True)
class MappedRecord:
    """A canonical document without what is absent, and the findings in the order of the rows."""

    document: dict[str, Any]
    findings: tuple[RecordFinding, ...]
