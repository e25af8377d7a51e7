"""Checks of a mapping before it is saved: findings with row, column, code and a sentence; an error refuses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, takewhile
from typing import Final

from common.models.records import RECORD_TYPES
from sync.core.mapping.compiling import GATHER, RowMistake, compile_mapping
from sync.core.mapping.fhir_fields import unknown_field
from sync.core.mapping.row import ROWS_MAX, FieldMapping, MappingFinding, MappingRow, SourceKind
from sync.core.mapping.shapes import TRANSFORMS
from sync.core.mapping.source import native_steps, split_union
from sync.core.mapping.target import EACH, Step, parse_target, type_of
from sync.core.mapping.transform import Surroundings

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "patient": ("identifiers", "names"),
    "appointment": ("status",),
    "charge": (),
}
"""Fields without which a record of a type can neither be matched nor shown."""
# What may come out of a transform for a kind of target; the rest cannot fit, whatever the value.
_FITS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"text", "date", "instant", "code"}),
    "code": frozenset({"text", "code"}),
    "pattern": frozenset({"text"}),
    "date": frozenset({"text", "date"}),
    "instant": frozenset({"text", "instant"}),
    "boolean": frozenset({"boolean"}),
    "integer": frozenset({"integer"}),
    "object": frozenset({"object"}),
}


def check_mapping(mapping: FieldMapping, surroundings: Surroundings | None = None) -> tuple[MappingFinding, ...]:
    """Everything that is wrong with a mapping, in the order of its rows; errors refuse it, the others are advice."""
    if mapping.record_type not in RECORD_TYPES:
        message = f"there are records of: {', '.join(RECORD_TYPES)}"
        return (MappingFinding(0, "record_type", "mapping.unknown-record-type", message),)
    if len(mapping.rows) > ROWS_MAX:
        return (MappingFinding(0, "rows", "mapping.too-many-rows", f"a mapping has at most {ROWS_MAX} rows"),)
    around = surroundings or Surroundings()
    found = [finding for number in range(1, len(mapping.rows) + 1) for finding in _row(mapping, number, around)]
    if not any(finding.is_error for finding in found):
        # Rows that are right by themselves can still be at odds with each other.
        found += _together(mapping, around)
    return (*found, *_required(mapping))


def _row(mapping: FieldMapping, number: int, around: Surroundings) -> Iterator[MappingFinding]:
    row = mapping.rows[number - 1]
    try:
        steps = parse_target(row.target)
    except ValueError as error:
        yield MappingFinding(number, "target", "mapping.target-syntax", str(error))
        return
    if any(other.target == row.target for other in mapping.rows[: number - 1]):
        yield MappingFinding(number, "target", "mapping.duplicate-target", "an earlier row fills it, too")
    try:
        type_of(mapping.record_type, steps)
    except ValueError as error:
        yield MappingFinding(number, "target", "mapping.unknown-target", str(error))
        return
    try:
        compile_mapping(_alone(mapping, row, steps), around)
    except RowMistake as mistake:
        yield MappingFinding(number, mistake.column, mistake.code, mistake.message)
        return
    yield from _type_mismatch(mapping, number, row, steps)
    yield from _unknown_source(mapping, number, row)


def _alone(mapping: FieldMapping, row: MappingRow, steps: tuple[Step, ...]) -> FieldMapping:
    """The row with the rows for `[*]` above it."""
    texts = [f"{step.name}[*]" if step.select == EACH else step.name for step in steps]
    above = {".".join(texts[: place + 1]) for place, step in enumerate(steps) if step.select == EACH}
    rows = [other for other in mapping.rows if other.target in above and other.target != row.target]
    return replace(mapping, rows=(*{other.target: other for other in rows}.values(), row))


def _type_mismatch(
    mapping: FieldMapping, number: int, row: MappingRow, steps: tuple[Step, ...]
) -> Iterator[MappingFinding]:
    target = type_of(mapping.record_type, steps)
    flows = [TRANSFORMS[use.name] for use in row.transforms if use.name != GATHER]
    for one, following in pairwise(flows):
        if following.takes not in {"any", one.gives, "list"} and one.gives not in {"any", "same"}:
            if following.takes == "text" and one.gives in {"date", "instant", "code", "texts"}:
                continue
            message = f"{one.name} gives {one.gives}, {following.name} takes {following.takes}"
            yield MappingFinding(number, "transforms", "mapping.type-mismatch", message)
    gives = flows[-1].gives if flows else "any"
    if gives == "texts":
        gives = "text"
    if gives not in {"any", "same"} and gives not in _FITS.get(target.kind, frozenset({gives})):
        message = f"{flows[-1].name} gives {gives}, the target is {target.kind}"
        yield MappingFinding(number, "transforms", "mapping.type-mismatch", message)


def _unknown_source(mapping: FieldMapping, number: int, row: MappingRow) -> Iterator[MappingFinding]:
    """FHIR fields that the standard does not have: advice, because a vendor may add some."""
    if mapping.source_kind is not SourceKind.FHIR or not row.source:
        return
    above = _fields_above(mapping, row.target)
    if above is None:
        return
    for part in split_union(row.source):
        names = _field_names(part)
        unknown = unknown_field(mapping.source_type, [*above, *names]) if names else None
        if unknown is not None:
            message = f"FHIR R4 {mapping.source_type} has no field {unknown}"
            yield MappingFinding(number, "source", "mapping.unknown-source", message, is_error=False)


def _field_names(text: str) -> list[str]:
    """The fields of a plain expression, in order, up to an extension; none of one that is not plain."""
    steps = native_steps(text.strip()) or []
    before = takewhile(lambda step: step["url"] is None, steps)
    return [step["name"] for step in before if step["name"]]


def _fields_above(mapping: FieldMapping, target: str) -> list[str] | None:
    """The fields that the rows of the lists around a target read; None where they are not plain."""
    names: list[str] = []
    place = target.find("[*].")
    while place >= 0:
        outer = next((row.source for row in mapping.rows if row.target == target[: place + 3]), "")
        found = _field_names(outer)
        if not found:
            return None
        names += found
        place = target.find("[*].", place + 3)
    return names


def _together(mapping: FieldMapping, around: Surroundings) -> Iterator[MappingFinding]:
    try:
        compile_mapping(mapping, around)
    except RowMistake as mistake:
        yield MappingFinding(0, mistake.column, mistake.code, mistake.message)


def _required(mapping: FieldMapping) -> Iterator[MappingFinding]:
    filled = {row.target.partition("[")[0].partition(".")[0] for row in mapping.rows}
    for name in REQUIRED[mapping.record_type]:
        if name not in filled:
            yield MappingFinding(0, "target", "mapping.required-unmapped", f"no row fills {name}")
