"""All mistakes of a profile are named at once; what has no mistakes compiles."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7v2.profile import ProfileError

WRONG: dict[str, Any] = {
    "nmae": "x",
    "version": 2.5,
    "severity": {"lenght": "warning", "length": "wrong", "table-user": False},
    "fields": {"PID-3": {"required": "yes", "length": -1, "values": ["A"]}, "PID-99": {"required": True}, "PID3": {}},
    "tables": {1: {"also": ["D"]}, "9999": {"also": ["D"]}},
    "structures": {"ADT_A99": {"optional": ["PV1"]}, "ADT_A01": {"optional": ["PVX", "PV1"], "required": ["PV1"]}},
    "events": {"ADT^Z01": "ADT_A01", "ADT^Z02": "ADT_A99"},
    "segments": {
        "PID": {1: {"type": "SI"}},
        "ZPD": {1: {"typ": "SI"}, 0: {}, 2: {"type": "QQ"}, 3: {"type": "SI"}, 4: {"type": "CX"}},
    },
}


def test_every_mistake_is_named_with_its_place() -> None:
    places = [".".join(mistake.place) for mistake in hl7v2.profile_mistakes(WRONG)]
    assert places == [
        "nmae", "version", "severity.lenght", "severity.length", "fields.PID-3.required", "fields.PID-3.length",
        "fields.PID-99", "fields.PID3", "tables.1", "tables.9999", "structures.ADT_A99",
        "structures.ADT_A01.optional", "structures.ADT_A01.required", "events.ADT^Z02", "segments.PID",
        "segments.ZPD.1.typ", "segments.ZPD.0", "segments.ZPD.2.type",
    ]  # fmt: skip


def test_a_field_that_only_another_version_has_is_a_mistake_where_the_version_is_said() -> None:
    assert hl7v2.profile_mistakes({"fields": {"PID-35": {"required": True}}}) == []
    (mistake,) = hl7v2.profile_mistakes({"version": "2.3", "fields": {"PID-35": {"required": True}}})
    assert mistake.detail == "HL7 v2.3 has no field PID-35"


KEYS = st.sampled_from(["name", "version", "severity", "fields", "tables", "structures", "events", "segments", "x", 7])
NAMES = st.sampled_from(["PID-3", "length", "0001", 1, "ADT_A01", "*", "ADT^Z01", "ZPD", "PID", "", None])
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 5, "error", "PV1", "2.5.1", "ADT_A01", "off", ["PV1"], ["A", 1]]),
    lambda inner: st.dictionaries(
        st.sampled_from(["required", "length", "also", "values", "ignore", "optional", "type", 1, "1", "x"]),
        inner,
        max_size=3,
    ),
    max_leaves=5,
)


@given(st.one_of(VALUES, st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)))))
def test_what_has_no_mistakes_compiles_and_what_does_not_compile_has_some(document: Any) -> None:
    mistakes = hl7v2.profile_mistakes(document)
    if not isinstance(document, dict):
        assert mistakes
        return
    try:
        hl7v2.compile_profile(document)
    except ProfileError:
        assert mistakes


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8"), ("8859/5", "iso8859-5"), ("Shift JIS", "cp932"),
     ("GB 18030-2000", "gb18030"), ("WINDOWS-1250", "cp1250")],
)  # fmt: skip
def test_an_assumed_encoding_counts_where_msh_18_is_silent(encoding: str, written: str) -> None:
    name = {"latin-1": "NÚÑEZ", "utf-8": "NÚÑEZ", "iso8859-5": "Иванов", "cp1250": "Dvořák"}.get(written, "山田")
    text = f"MSH|^~\\&|A|B|C|D|20260301||ADT^A08|1|P|2.5.1|||||{{}}\rPID|1||4711||{name}^X\r"
    silent = text.format("").encode(written)
    message = hl7v2.parse_assuming(silent, encoding)
    assert (message["PID-5.1"], message.tolerated, bytes(message)) == (name, [], silent)
    spoken = text.format("|UNICODE UTF-8").encode()
    assert hl7v2.parse_assuming(spoken, "8859/1")["PID-5.1"] == name
    message.set("PID-5.2", name)
    assert bytes(message) == silent.replace(b"^X", b"^" + name.encode(written))


def test_an_assumption_that_the_bytes_contradict_is_told() -> None:
    data = "MSH|^~\\&|A|B|C|D|20260301||ADT^A08|1|P|2.5.1\rPID|1||4711||NÚÑEZ\r".encode()
    message = hl7v2.parse_assuming(data, "8859/1")
    assert (message["PID-5.1"], message.tolerated) == ("NÚÑEZ", ["charset-contradicted"])
    with pytest.raises(ValueError, match="MSH-18"):
        hl7v2.parse_assuming(data, "no such set")
    assert hl7v2.parse_assuming(data, None)["PID-5.1"] == "NÚÑEZ"
