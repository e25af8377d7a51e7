"""The data is whole: what one part refers to, another defines; and it says what the standard says, in samples."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

import hl7v2
from hl7v2.standard import PRIMITIVES, VERSIONS, FieldRow, Item, nearest, standard


def named(items: tuple[Item, ...]) -> Iterator[str]:
    for item in items:
        if item.items:
            yield from named(item.items)
        else:
            yield item.name


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_that_is_referred_to_exists(version: str) -> None:
    found = standard(version)
    known_types = {*PRIMITIVES, *found.types}
    missing: list[tuple[str, str]] = []
    for name in found.segments:
        segment = found.segment(name)
        assert segment is not None
        for number, row in enumerate(segment.fields, start=1):
            if row is not None:
                missing += [(f"{name}-{number}", row.type)] if row.type not in known_types else []
                missing += [(f"{name}-{number}", row.table)] if row.table and found.table(row.table) is None else []
    for name in found.types:
        for component in found.type(name) or ():
            missing += [(name, component.type)] if component.type not in known_types else []
            missing += [(name, component.table)] if component.table and found.table(component.table) is None else []
    for name in found.structures:
        items = found.structure(name)
        assert items
        missing += [(name, part) for part in named(items) if part not in found.segments and part != "*"]
    missing += [(event, name) for event, name in found.events.items() if name not in found.structures]
    assert missing == []


@pytest.mark.parametrize("version", VERSIONS)
def test_tables_hold_codes_and_no_remarks(version: str) -> None:
    found = standard(version)
    for number in found.tables:
        table = found.table(number)
        assert table is not None
        assert table.values
        assert table.kind in {"H", "E", "U", "O"}
        assert all(value == value.strip() and value.isprintable() for value in table.values), number
        if table.kind == "H":
            assert not any("..." in value or "…" in value for value in table.values), number


@pytest.mark.parametrize(
    ("version", "segment", "number", "row"),
    [
        ("2.3", "PID", 3, FieldRow("CX", 1, -1, 250, "", "", "Patient ID")),
        ("2.5.1", "PID", 3, FieldRow("CX", 1, -1, 250, "", "", "Patient Identifier List")),
        ("2.5.1", "PV1", 2, FieldRow("IS", 1, 1, 1, "0004", "", "Patient Class")),
        ("2.5.1", "OBX", 11, FieldRow("ID", 1, 1, 1, "0085", "", "Observation Result Status")),
        ("2.8", "OBX", 2, FieldRow("ID", 0, 1, 3, "0125", "", "Value Type")),
        ("2.8.2", "PID", 7, FieldRow("DTM", 0, 1, 24, "", "", "Date/Time of Birth")),
        ("2.5.1", "OBX", 5, FieldRow("varies", 0, -1, 0, "", "", "Observation Value")),
    ],
)
def test_fields_are_as_the_standard_has_them(version: str, segment: str, number: int, row: FieldRow) -> None:
    found = standard(version).segment(segment)
    assert found is not None
    assert found.fields[number - 1] == row


@pytest.mark.parametrize(
    ("version", "event", "structure"),
    [
        ("2.2", "ADT^A08", "ADT_A08"),
        ("2.3", "ADT^A08", "ADT_A01"),
        ("2.3.1", "ADT^A31", "ADT_A01"),
        ("2.4", "ADT^A12", "ADT_A09"),
        ("2.5.1", "ADT^A04", "ADT_A01"),
        ("2.5.1", "ADT^A28", "ADT_A05"),
        ("2.5.1", "ADT^A34", "ADT_A30"),
        ("2.5.1", "ADT^A40", "ADT_A39"),
        ("2.5.1", "SIU^S26", "SIU_S12"),
        ("2.5.1", "MDM^T04", "MDM_T02"),
        ("2.8", "ADT^A40", "ADT_A39"),
    ],
)
def test_events_have_the_structure_of_table_0354(version: str, event: str, structure: str) -> None:
    assert standard(version).events[event] == structure


def test_withdrawn_events_are_known_from_other_versions() -> None:
    assert "ORM^O01" not in standard("2.8").events
    assert "ORM^O01" in standard("2.8").events_elsewhere


@pytest.mark.parametrize(
    ("given", "served_by"),
    [
        ("2.5.1", "2.5.1"), ("2.7.1", "2.7"), ("2.9", "2.8.2"), ("2.3.2", "2.3.1"), ("2.0", "2.1"), ("", "2.5.1"),
        ("3", "2.8.2"), ("2.x", "2.5.1"), ("2.५", "2.5.1"), ("9" * 5000, "2.5.1"),
    ],
)  # fmt: skip
def test_nearest_version(given: str, served_by: str) -> None:
    assert nearest(given) == served_by


def test_a_version_without_tables_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no tables for HL7 version '2\.9'"):
        standard("2.9")


def test_who_only_parses_imports_neither_the_validator_nor_the_tables() -> None:
    code = (
        "import sys, hl7v2\n"
        "assert not {'hl7v2.validator', 'hl7v2.standard', 'json', 'zlib'} & set(sys.modules)\n"
        "message = hl7v2.parse(b'MSH|^~\\\\&|||||||ACK|1|P|2.5.1\\rMSA|AA|1\\r')\n"
        "assert [finding.path for finding in hl7v2.validate(message)] == ['MSH-7']\n"
        "assert 'hl7v2.validator' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        hl7v2.nothing_of_the_kind  # noqa: B018
