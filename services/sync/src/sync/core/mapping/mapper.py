"""From a resource to a record of ours, by the default mapping or by an integration's own.

An integration without a mapping of its own is mapped by hand (`fhir_mapping`): the default rows are tested to give the
same, and the code is a fifth faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from common.models.records import RECORD_TYPES, Appointment
from sync.core.fhir_mapping import Mapped, broken_rule, external_id_of, map_resource
from sync.core.mapping.compiling import CompiledMapping, compile_mapping
from sync.core.mapping.defaults import default_mapping
from sync.core.mapping.row import FieldMapping, MappingRow, RecordFinding, SourceKind
from sync.core.mapping.saved import Kind, mapping_subject, rows_of, value_map_subject, value_rows_of
from sync.core.mapping.transform import Surroundings
from sync.core.mapping.value_map import Unmapped, value_map_of
from sync.core.rejection import INVALID, Rejection, rejection_of

_RULE_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Mapper:
    """Maps the resources of an integration; call it with a resource and the expected FHIR type.

    `unmapped` counts codes that no value map names, by kind, until somebody takes them.
    """

    compiled: Mapping[str, CompiledMapping] = field(default_factory=dict)
    """By FHIR type; what is missing is mapped by the default."""
    unmapped: Mapping[str, Unmapped] = field(default_factory=dict)

    def __call__(self, resource: Mapping[str, Any], expected: str) -> Mapped | Rejection:
        """The record, or why it is none. Never raises."""
        compiled = self.compiled.get(expected)
        return map_resource(resource, expected) if compiled is None else mapped_by(compiled, resource, expected)

    def take_unmapped(self) -> dict[str, Unmapped]:
        """What was counted since the last call."""
        found = {kind: Unmapped(counted) for kind, counted in self.unmapped.items() if counted}
        for kind in found:
            self.unmapped[kind].clear()
        return found


def mapped_by(compiled: CompiledMapping, resource: Mapping[str, Any], expected: str) -> Mapped | Rejection:
    """The record of a resource by a compiled mapping, or why it is none. Never raises."""
    external_id = external_id_of(resource, expected)
    if isinstance(external_id, Rejection):
        return external_id
    found = compiled(resource)
    broken = next((finding for finding in found.findings if is_broken(finding)), None)
    if broken is not None:
        return Rejection(INVALID, _rule(broken), broken.value_class)
    try:
        record = RECORD_TYPES[compiled.record_type].model_validate(found.document)
    except ValidationError as error:
        return rejection_of(error)
    unsound = broken_rule(record) if isinstance(record, Appointment) else None
    return unsound or Mapped(external_id, record)


def is_broken(finding: RecordFinding) -> bool:
    """Whether a finding rejects the record: an item without its required value is merely left out, as ever."""
    return not (finding.rule == "required" and "[*]." in finding.target)


def _rule(finding: RecordFinding) -> str:
    """Which row broke which rule, as the quarantine shows it."""
    return f"row {finding.row} {finding.target} {finding.rule}"[:_RULE_CHARACTERS_MAX]


def default_rows(record_type: str) -> FieldMapping:
    """The mapping that a FHIR integration begins with."""
    found = default_mapping(SourceKind.FHIR, record_type)
    assert found is not None
    return found


def with_rows(record_type: str, rows: tuple[MappingRow, ...]) -> FieldMapping:
    """A mapping of FHIR resources by other rows than the default's."""
    default = default_rows(record_type)
    return FieldMapping(record_type, SourceKind.FHIR, rows, default.source_type)


def surroundings_of(contents: Mapping[str, Any]) -> tuple[Surroundings, dict[str, Unmapped]]:
    """Every kind of value map, without rows where none is saved, and where what they do not name is counted."""
    unmapped = {kind.value: Unmapped() for kind in Kind}
    maps = {
        kind.value: value_map_of(value_rows_of(contents.get(value_map_subject(kind), ())), unmapped[kind.value])
        for kind in Kind
    }
    return Surroundings(value_maps=maps), unmapped


def mapper_of(contents: Mapping[str, Any]) -> Mapper:
    """The mapper of an integration by the newest contents of its subjects. Raises RowMistake."""
    surroundings, unmapped = surroundings_of(contents)
    compiled = {}
    for record_type in ("patient", "appointment"):
        content = contents.get(mapping_subject(record_type))
        if content is not None:
            mapping = with_rows(record_type, rows_of(content))
            compiled[mapping.source_type] = compile_mapping(mapping, surroundings)
    return Mapper(compiled, unmapped)
