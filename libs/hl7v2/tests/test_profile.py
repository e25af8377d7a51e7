"""Site profiles: the standard tightened or loosened for one sender."""

from pathlib import Path
from typing import Any

import pytest

import hl7v2
from hl7v2.profile import ProfileError, compile_profile

BASE = (
    b"MSH|^~\\&|EPIC|GENHOSP|PSTUDIO|PS|20260302140000||ADT^A02^ADT_A02|4471240|P|2.5.1\rEVN|A02|20260302140000\r"
    b"PID|1||8001234^^^EPIC^MR||RIVERA^ALMA^J||19800214|F\rPV1|1|I|ICU^12^A^GENHOSP\r"
)


def told(data: bytes, given: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = hl7v2.validate(hl7v2.parse(data), compile_profile(given))
    return [(finding.path, finding.code, finding.severity) for finding in found]


def test_an_empty_profile_is_the_standard() -> None:
    for path in sorted((Path(__file__).parent / "corpus").glob("*.hl7")):
        message = hl7v2.parse(path.read_bytes().replace(b"\n", b"\r"))
        assert hl7v2.validate(message, compile_profile({})) == hl7v2.validate(message)


CHANGES: dict[str, tuple[bytes, dict[str, Any], list[tuple[str, str, str]]]] = {
    "severity of a rule": (
        BASE.replace(b"|F\r", b"|X\r"), {"severity": {"table-user": "error"}}, [("PID-8", "103", "error")],
    ),
    "a rule switched off": (BASE.replace(b"|F\r", b"|X\r"), {"severity": {"table-user": "off"}}, []),
    "off as YAML reads it": (BASE.replace(b"|F\r", b"|X\r"), {"severity": {"table-user": False}}, []),
    "a field required": (BASE, {"fields": {"PID-19": {"required": True}}}, [("PID-19", "101", "error")]),
    "a field not required": (BASE.replace(b"8001234^^^EPIC^MR", b""), {"fields": {"PID-3": {"required": False}}}, []),
    "a shorter length": (BASE, {"fields": {"PID-5": {"length": 5}}}, [("PID-5", "104", "error")]),
    "no length": (
        BASE.replace(b"|4471240|", b"|" + b"4" * 300 + b"|"), {"fields": {"MSH-10": {"length": 0}}}, [],
    ),
    "more repetitions": (BASE.replace(b"PV1|1|I|", b"PV1|1|I~O|"), {"fields": {"PV1-2": {"repetitions": 2}}}, []),
    "fewer repetitions": (
        BASE.replace(b"EPIC^MR|", b"EPIC^MR~2^^^X^PI|"), {"fields": {"PID-3": {"repetitions": 1}}},
        [("PID-3[2]", "102", "error")],
    ),
    "other values": (BASE, {"fields": {"PID-8": {"values": ["M"]}}}, [("PID-8", "103", "error")]),
    "more values": (BASE.replace(b"|F\r", b"|D\r"), {"fields": {"PID-8": {"also": ["D"]}}}, []),
    "more values of a table": (BASE.replace(b"|F\r", b"|D\r"), {"tables": {"0001": {"also": ["D"]}}}, []),
    "a field ignored": (BASE.replace(b"|F\r", b"|toolong\r"), {"fields": {"PID-8": {"ignore": True}}}, []),
    "a rule ignored in a field": (
        BASE.replace(b"|19800214|", b"|19801314|"), {"fields": {"PID-7": {"ignore": ["data-type"]}}}, [],
    ),
    "PV1 optional": (BASE[: BASE.index(b"PV1")], {"structures": {"ADT_A02": {"optional": ["PV1"]}}}, []),
    "PD1 required": (BASE, {"structures": {"ADT_A02": {"required": ["PD1"]}}}, [("PD1", "100", "error")]),
    "PD1 repeating": (
        BASE.replace(b"PV1", b"PD1\rPD1\rPV1"), {"structures": {"ADT_A02": {"repeating": ["PD1"]}}}, [],
    ),
    "NTE anywhere": (BASE.replace(b"PV1", b"NTE|1\rPV1"), {"structures": {"*": {"anywhere": ["NTE"]}}}, []),
    "an event of its own": (BASE.replace(b"ADT^A02^ADT_A02", b"ADT^Z02"), {"events": {"ADT^Z02": "ADT_A02"}}, []),
    "another version than MSH-12 says": (BASE.replace(b"|2.5.1", b"|9"), {"version": "2.5.1"}, []),
    "set ids ignored": (BASE.replace(b"PID|1|", b"PID|7|"), {"severity": {"set-id": "off"}}, []),
    "a Z segment declared": (
        BASE + b"ZPD|x||3\rZXX|1\r",
        {"segments": {"ZPD": {1: {"type": "SI"}, 3: {"type": "NM"}, 4: {"required": True, "name": "Clinic"}}}},
        [("ZPD-1", "102", "error"), ("ZPD-4", "101", "error"), ("ZXX", "100", "info")],
    ),
    "Z segments told": (BASE + b"ZXX|1\r", {"severity": {"segment-z": "warning"}}, [("ZXX", "100", "warning")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_profile_changes_what_is_told(name: str) -> None:
    data, given, expected = CHANGES[name]
    assert told(data, given) == expected


def test_without_the_profile_the_changes_would_tell_something_else() -> None:
    for data, given, expected in CHANGES.values():
        assert given
        assert told(data, {}) != expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fileds": {}}, "the profile: there is no 'fileds'"),
        ({"version": 2.5}, "version: 2.5 is none of"),
        ({"severity": {"lenght": "warning"}}, "there is no rule 'lenght'"),
        ({"severity": {"length": "warn"}}, "severity.length: 'warn' is none of error, warning, info, off"),
        ({"fields": {"PID": {}}}, "fields: 'PID' is no name such as PID-3"),
        ({"fields": {"PID-3": {"require": True}}}, "fields.PID-3: there is no 'require'"),
        ({"fields": {"PID-3": {"required": "yes"}}}, "fields.PID-3.required: expected bool"),
        ({"fields": {"PID-3": {"length": -1}}}, "fields.PID-3.length: expected a number from 0 on"),
        ({"fields": {"PID-8": {"values": "M"}}}, "fields.PID-8.values: expected a list of texts"),
        ({"fields": {"PID-8": {"values": [1]}}}, "fields.PID-8.values: expected a list of texts (numbers in quotes)"),
        ({"fields": {"PID-8": {"ignore": ["tabel"]}}}, "fields.PID-8.ignore: there is no rule 'tabel'"),
        ({"tables": {1: {}}}, "tables: 1 is no name such as \"0001\""),
        ({"structures": {"ADT_A01": {"optional": ["PV"]}}}, "structures.ADT_A01: 'PV' is no name such as PV1"),
        ({"segments": {"PID": {}}}, "segments.PID: only Z segments are declared"),
        ({"segments": {"ZPD": {"x": {}}}}, "segments.ZPD: 'x' is no field number"),
        ({"fields": []}, ""),
        ({"fields": ["PID-3"]}, "fields: expected a mapping"),
    ],
)  # fmt: skip
def test_a_profile_that_can_not_be_meant_is_refused(given: dict[str, Any], said: str) -> None:
    if not said:
        assert compile_profile(given).fields == {}
        return
    with pytest.raises(ProfileError) as caught:
        compile_profile(given)
    assert said in str(caught.value)
