"""Versions of field mappings and value maps: what they are about, what is kept, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text
from sync.core.mapping.row import FieldMapping, MappingRow, TransformUse
from sync.core.mapping.value_map import ValueMapRow

VERSIONS_LISTED_MAX: Final = 200
UNMAPPED_LISTED_MAX: Final = 500
UNMAPPED_KEPT_MAX: Final = 5_000


class Kind(StrEnum):
    """What a value map is about; transforms name a map by its kind."""

    APPOINTMENT_TYPE = "appointment-type"
    LOCATION = "location"
    PRACTITIONER = "practitioner"
    PAYER = "payer"
    STATUS = "status"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class SavedVersion:
    """`content` is the rows as JSON; `restored_from` the version that was taken up again."""

    version: int
    content: Sequence[Mapping[str, Any]]
    note: str
    saved_by: str
    saved_at: datetime
    restored_from: int | None = None


@dataclass(frozen=True, slots=True)
class UnmappedValue:
    """A code that no row of a value map names, and how often it came."""

    source_system: str
    source_code: str
    display: str
    times: int
    first_seen_at: datetime
    last_seen_at: datetime


def mapping_subject(record_type: str) -> str:
    """The name of a field mapping among an integration's versions."""
    return f"mapping/{record_type}"


def value_map_subject(kind: Kind) -> str:
    """The name of a value map among an integration's versions."""
    return f"value-map/{kind}"


def rows_json(mapping: FieldMapping) -> list[dict[str, Any]]:
    """The rows of a mapping as JSON."""
    return [{**asdict(row), "transforms": [asdict(use) for use in row.transforms]} for row in mapping.rows]


def rows_of(content: Sequence[Mapping[str, Any]]) -> tuple[MappingRow, ...]:
    """The rows of a mapping from what `rows_json` gives."""
    return tuple(
        MappingRow(**{**row, "transforms": tuple(TransformUse(**use) for use in row["transforms"])}) for row in content
    )


def value_rows_json(rows: Sequence[ValueMapRow]) -> list[dict[str, Any]]:
    """The rows of a value map as JSON."""
    return [asdict(row) for row in rows]


def value_rows_of(content: Sequence[Mapping[str, Any]]) -> tuple[ValueMapRow, ...]:
    """The rows of a value map from what `value_rows_json` gives."""
    return tuple(ValueMapRow(**row) for row in content)


def version_json(saved: SavedVersion) -> dict[str, Any]:
    """A version without its rows."""
    return {
        "version": saved.version,
        "note": saved.note,
        "saved_by": saved.saved_by,
        "saved_at": instant_text(saved.saved_at),
        "restored_from": saved.restored_from,
        "rows_count": len(saved.content),
    }


def difference(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> dict[str, Any]:
    """Rows that were added, removed or changed, found again by their `keys`; `moved`: the rest has another order."""

    def keyed(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
        return {tuple(row[key] for key in keys): row for row in rows}

    one, other = keyed(before), keyed(after)
    return {
        "added": [dict(row) for key, row in other.items() if key not in one],
        "removed": [dict(row) for key, row in one.items() if key not in other],
        "changed": [
            {
                "before": dict(one[key]),
                "after": dict(row),
                "columns": [name for name in row if row[name] != one[key].get(name)],
            }
            for key, row in other.items()
            if key in one and one[key] != row
        ],
        "moved": [key for key in one if key in other] != [key for key in other if key in one],
    }
