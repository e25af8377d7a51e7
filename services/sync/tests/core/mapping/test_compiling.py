"""Mappings by example and by property: expressions, transforms, findings that never hold a value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.hl7_message import parse
from sync.core.mapping.compiling import RowMistake, compile_mapping
from sync.core.mapping.defaults import FHIR_APPOINTMENT, FHIR_PATIENT, HL7_PATIENT
from sync.core.mapping.row import FieldMapping, MappingRow, RecordFinding, SourceKind, TransformUse
from sync.core.mapping.transform import Surroundings
from sync.core.mapping.value_map import ValueMapRow, value_map_of

MAPS = {"payer": value_map_of([ValueMapRow("", "BC ", "Blue", "P1"), ValueMapRow("s", "bc", "Blue of s", "P2")])}


def patient(kind: SourceKind, *rows: MappingRow) -> FieldMapping:
    return FieldMapping("patient", kind, rows, "Patient")


def one(source: Any, expression: str, *uses: TransformUse, target: str = "language", kind: str = "fhir") -> Any:
    """What one row makes of a source: the value at its target's first step, or the rule it broke."""
    mapping = patient(SourceKind(kind), MappingRow(target, expression, uses))
    found = compile_mapping(mapping, Surroundings(value_maps=MAPS))(source)
    return found.findings[0].rule if found.findings else found.document.get(target.partition("[")[0])


RESOURCE = {
    "resourceType": "Patient",
    "name": [{"use": "usual", "family": " Smith "}, {"use": "old", "family": "Jones", "given": ["A", "B"]}],
    "extension": [{"url": "http://x/race", "valueString": "r"}, {"url": "http://x/sex", "valueCode": "F"}],
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("name[0].family", "Smith"),
        ("Patient.name.first().family", "Smith"),
        ("name.where(use='old').family", "Jones"),
        ("name.where(use = 'old').given[1]", "B"),
        ("extension('http://x/sex').value", "F"),
        ("extension('http://x/none').value", None),
        ("name.family", "several-values"),
        ("maidenName | name[1].family | name[0].family", "Jones"),
        ("name.given.count().toString()", "2"),  # by the library
        ("name.where(use = 'old' and family = 'Jones').family", "Jones"),
        ("name[0]", "text"),
    ],
)
def test_fhirpath(expression: str, value: Any) -> None:
    assert one(RESOURCE, expression) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [("Language", "en"), ("Person.Languages[0]", "es"), ("Person.Languages[?@=='fr'] | [0]", "fr"), ("None", None)],
)
def test_jmespath(expression: str, value: Any) -> None:
    source = {"Language": "en", "Person": {"Languages": ["es", "fr"]}}
    assert one(source, expression, kind="unity") == value


def test_columns_and_hl7_paths() -> None:
    assert one({"Preferred language": " es "}, "Preferred language", kind="file") == "es"
    body = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08|1|P|2.5\rPID|1||1~2^^^X||Doe^Jo\rNK1|1\rNK1|2|K\r"
    message = parse(body)
    for path, value in (("PID-5.2", "Jo"), ("PID-3[2].4", "X"), ("NK1[2]-2", "K"), ("NK1[3]-2", None), ("PID-9", None)):
        assert one(message, path, kind="hl7v2") == value


@pytest.mark.parametrize(
    ("value", "name", "parameters", "result"),
    [
        ("5/17/1970", "date", {"formats": ["%m/%d/%Y", "%Y%m%d"]}, "1970-05-17"),
        ("19700517", "date", {"formats": ["%m/%d/%Y", "%Y%m%d"]}, "1970-05-17"),
        ("17.5.1970", "date", {"formats": ["%Y%m%d"]}, "date"),
        ("2026-03-08T09:00", "date-time", {"zone": "America/Chicago"}, "2026-03-08T09:00:00-05:00"),
        ("2026-03-08T02:30", "date-time", {"zone": "America/Chicago"}, "date-time.skipped"),
        ("2026-03-08T09:00", "date-time", {}, "date-time.zone"),
        ("(312) 555-0123", "phone", {}, "+13125550123"),
        ("030 901820", "phone", {"region": "DE", "format": "international"}, "+49 30 901820"),
        ("12", "phone", {}, "phone"),
        ("O'NEIL-SMITH", "name-case", {}, "O'Neil-Smith"),
        ("MacDonald", "name-case", {}, "MacDonald"),
        ("a, b ,c", "split", {"separator": ",", "index": -1}, "c"),
        ("x", "concat", {"before": "MRN-"}, "MRN-x"),
        ("f", "lookup", {"table": {"F": "female"}}, "female"),
        ("q", "lookup", {"table": {"F": "female"}}, "lookup.unknown"),
        ("q", "lookup", {"table": {"F": "female"}, "unknown": "absent"}, None),
        ("bc", "value-map", {"map": "payer"}, "P1"),
        ("BC", "value-map", {"map": "payer", "system": "s"}, "P2"),
        ("zz", "value-map", {"map": "payer"}, "value-map.payer.unmapped"),
        ("MRN 4711", "regex", {"pattern": "MRN ([0-9]+)", "group": 1}, "4711"),
        ("none", "regex", {"pattern": "([0-9]+)"}, "regex.no-match"),
        ("x", "constant", {"value": "en"}, "en"),
        ("$1,234.5", "decimal", {"places": 2}, "1234.50"),
        ("1.234,5", "decimal", {"point": ","}, "1234.5"),
        ("ten", "decimal", {}, "decimal"),
        ("Abc", "upper", {}, "ABC"),
        ("Abc", "lower", {}, "abc"),
    ],
)
def test_transforms(value: str, name: str, parameters: dict[str, Any], result: Any) -> None:
    assert one({"v": value}, "v", TransformUse(name, parameters)) == result


def test_transforms_of_other_types() -> None:
    assert one({"v": "Yes"}, "v", TransformUse("boolean"), target="active") is True
    assert one({"v": "maybe"}, "v", TransformUse("boolean"), target="active") == "boolean"
    assert one({"v": "1 Elm\r\nApt 2"}, "v", TransformUse("lines"), target="addresses[0].line") == [
        {"line": ["1 Elm", "Apt 2"]}
    ]
    gather = TransformUse("gather", {"sources": ["a", "b", "c"]})
    assert one({"a": "x", "c": "y"}, "", gather, TransformUse("join", {"separator": "-"})) == "x-y"


def test_items_selects_and_indexes_make_lists_in_their_order() -> None:
    rows = (
        MappingRow("names[1].family", "old"),
        MappingRow("names[0].family", "new"),
        MappingRow("telecom[system=phone].value", "phone"),
        MappingRow("telecom[system=email].value", "mail"),
    )
    compiled = compile_mapping(patient(SourceKind.FILE, *rows))
    assert compiled({"old": "B", "new": "A", "mail": "m@x"}).document == {
        "names": [{"family": "A"}, {"family": "B"}],
        "telecom": [{"system": "email", "value": "m@x"}],
    }


def test_defaults_and_required() -> None:
    rows = (MappingRow("language", "l", default="en"), MappingRow("birth_date", "b", required=True))
    found = compile_mapping(patient(SourceKind.FILE, *rows))({"l": " "})
    assert found.document == {"language": "en"}
    assert found.findings == (RecordFinding(2, "birth_date", "required", "absent"),)


def test_a_finding_names_row_rule_and_class_never_the_value() -> None:
    rows = (MappingRow("gender", "sex"), MappingRow("birth_date", "born"), MappingRow("active", "on"))
    found = compile_mapping(patient(SourceKind.FILE, *rows))({"sex": "SECRET", "born": "19SECRET", "on": "1"})
    assert found.document == {}
    assert [(each.row, each.rule, each.value_class) for each in found.findings] == [
        (1, "code", "text"), (2, "type", "text"), (3, "type", "digits"),
    ]  # fmt: skip
    assert "SECRET" not in repr(found)


@pytest.mark.parametrize(
    ("row", "column", "code"),
    [
        (MappingRow("names[*]", "name"), None, None),
        (MappingRow("nmaes", "name"), "target", "mapping.unknown-target"),
        (MappingRow("names.family", "name"), "target", "mapping.unknown-target"),
        (MappingRow("gender[0]", "name"), "target", "mapping.unknown-target"),
        (MappingRow("telecom[sytem=phone].value", "name"), "target", "mapping.unknown-target"),
        (MappingRow("names[", "name"), "target", "mapping.target-syntax"),
        (MappingRow("names[*].family", "family"), "target", "mapping.no-items"),
        (MappingRow("gender", "name.where("), "source", "mapping.source-syntax"),
        (MappingRow("gender", ""), "source", "mapping.no-source"),
        (MappingRow("gender", "gender", default="F"), "default", "mapping.default-type"),
        (MappingRow("gender", "g", (TransformUse("upcase"),)), "transforms", "mapping.unknown-transform"),
        (MappingRow("gender", "g", (TransformUse("upper", {"x": 1}),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("lookup"),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("value-map", {"map": "no"}),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("regex", {"pattern": "(a+)+$"}),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("regex", {"pattern": "("}),)), "transforms", "mapping.parameter"),
        (
            MappingRow("gender", "g", (TransformUse("regex", {"pattern": r"\\*\\*\\*x"}),)),
            "transforms",
            "mapping.parameter",
        ),
        (
            MappingRow("gender", "g", (TransformUse("regex", {"pattern": ".*.*.*x"}),)),
            "transforms",
            "mapping.parameter",
        ),
        (MappingRow("gender", "g", (TransformUse("date-time", {"zone": "X"}),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("phone", {"region": "XX"}),)), "transforms", "mapping.parameter"),
        (MappingRow("gender", "g", (TransformUse("gather", {"sources": []}),)), "transforms", "mapping.parameter"),
    ],
)
def test_a_row_that_cannot_work_is_named(row: MappingRow, column: str | None, code: str | None) -> None:
    mapping = patient(SourceKind.FHIR, row)
    if column is None:
        assert compile_mapping(mapping)({}).document == {}
        return
    with pytest.raises(RowMistake) as mistake:
        compile_mapping(mapping)
    assert (mistake.value.column, mistake.value.code) == (column, code)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FHIR_NAMES = sorted(
    [
        "identifier",
        "name",
        "telecom",
        "gender",
        "birthDate",
        "address",
        "maritalStatus",
        "communication",
        "active",
        "generalPractitioner",
        "status",
        "deceasedDateTime",
        "start",
        "end",
        "created",
        "minutesDuration",
        "participant",
        "serviceType",
        "appointmentType",
    ]
)
INNER = st.dictionaries(
    st.sampled_from(
        [
            "value",
            "type",
            "coding",
            "code",
            "text",
            "given",
            "family",
            "actor",
            "reference",
            "identifier",
            "language",
            "line",
        ]
    ),
    ANY_JSON,
    max_size=4,
)


COMPILED = {
    mapping.record_type: (compile_mapping(mapping), compile_mapping(mapping))
    for mapping in (FHIR_PATIENT, FHIR_APPOINTMENT)
}
COMPILED_HL7 = (compile_mapping(HL7_PATIENT), compile_mapping(HL7_PATIENT))


@given(st.dictionaries(st.sampled_from(FHIR_NAMES), ANY_JSON | INNER | st.lists(INNER, max_size=2)))
def test_whatever_a_server_sends_is_mapped_or_found_and_the_same_each_time(resource: dict[str, Any]) -> None:
    for one_time, other_time in COMPILED.values():
        first, second = one_time(resource), other_time(resource)
        assert first == second
        assert isinstance(first.document, dict)


@given(ANY_JSON)
def test_a_source_that_is_no_object_is_not_raised_either(source: Any) -> None:
    assert COMPILED["patient"][0](source).document.get("gender") is None


@given(st.binary(max_size=200))
def test_any_pid_is_mapped_or_found(body: bytes) -> None:
    message = parse(b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08|1|P|2.5\rPID|1||" + body + b"\r")
    one_time, other_time = COMPILED_HL7
    assert one_time(message) == other_time(message)
