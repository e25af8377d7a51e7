"""What is wrong with a mapping is named by row, column and code before it is saved."""

from __future__ import annotations

import pytest

from sync.core.mapping.checking import check_mapping
from sync.core.mapping.row import FieldMapping, MappingFinding, MappingRow, SourceKind, TransformUse

BASE = (
    MappingRow("identifiers[*]", "identifier"),
    MappingRow("identifiers[*].value", "value", required=True),
    MappingRow("names[0].family", "name[0].family"),
)


def checked(*rows: MappingRow, base: tuple[MappingRow, ...] = BASE) -> list[tuple[int, str, str, bool]]:
    found = check_mapping(FieldMapping("patient", SourceKind.FHIR, (*base, *rows), "Patient"))
    return [(each.row, each.column, each.code, each.is_error) for each in found]


def uses(*names: str) -> tuple[TransformUse, ...]:
    return tuple(TransformUse(name) for name in names)


@pytest.mark.parametrize(
    ("row", "column", "code", "is_error"),
    [
        (MappingRow("birthday", "birthDate"), "target", "mapping.unknown-target", True),
        (MappingRow("names[0].family", "name[1].family"), "target", "mapping.duplicate-target", True),
        (MappingRow("birth_date", "birthdate"), "source", "mapping.unknown-source", False),
        (MappingRow("names[0].text", "name[0].familyName"), "source", "mapping.unknown-source", False),
        (MappingRow("birth_date", "birthDate.value"), "source", "mapping.unknown-source", False),
        (MappingRow("birth_date", "birthDate.("), "source", "mapping.source-syntax", True),
        (MappingRow("birth_date", "birthDate junk"), "source", "mapping.source-syntax", True),
        (MappingRow("birth_date", "birthDate", uses("boolean")), "transforms", "mapping.type-mismatch", True),
        (MappingRow("active", "active", uses("upper")), "transforms", "mapping.type-mismatch", True),
        (MappingRow("active", "active", uses("boolean", "upper")), "transforms", "mapping.type-mismatch", True),
        (MappingRow("active", "active", uses("shout")), "transforms", "mapping.unknown-transform", True),
        (MappingRow("language", ""), "source", "mapping.no-source", True),
    ],
)
def test_a_mistake_is_named(row: MappingRow, column: str, code: str, is_error: bool) -> None:
    assert (4, column, code, is_error) in checked(row)


def test_rows_at_odds_with_each_other_are_named() -> None:
    assert (0, "target", "mapping.duplicate-target", True) in checked(MappingRow("identifiers", "identifier"))


def test_required_targets_and_unknown_record_types() -> None:
    assert checked(base=BASE[:2]) == [(0, "target", "mapping.required-unmapped", True)]
    assert checked() == []
    found = check_mapping(FieldMapping("parrot", SourceKind.FHIR, BASE))
    assert [each.code for each in found] == ["mapping.unknown-record-type"]
    assert isinstance(found[0], MappingFinding)


def test_an_extension_and_a_field_of_the_resource_are_known() -> None:
    assert checked(MappingRow("language", "extension('http://x/lang').value | language")) == []


def test_fields_below_a_list_are_looked_up_below_what_the_list_reads() -> None:
    def advice(source: str) -> list[str]:
        rows = (MappingRow("names[*]", "name"), MappingRow("names[*].family", source))
        found = check_mapping(FieldMapping("patient", SourceKind.FHIR, rows, "Patient"))
        return [each.message for each in found if each.code == "mapping.unknown-source"]

    assert advice("family") == []
    assert advice("extension('urn:x').valueString") == []
    assert advice("period.extension('urn:x').valueString") == []
    assert advice("nam.family") == ["FHIR R4 Patient has no field nam"]
