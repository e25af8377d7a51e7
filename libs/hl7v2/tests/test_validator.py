"""Validation: realistic traffic passes, and each seeded mistake gives its one finding at its place."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hl7v2
from hl7v2.report import FINDINGS_MAX

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.hl7"))


def read(path: Path) -> bytes:
    """A message of the corpus; its files have line feeds so that people can read them."""
    return path.read_bytes().replace(b"\n", b"\r")


def corpus(name: str) -> bytes:
    return read(Path(__file__).parent / "corpus" / f"{name}.hl7")


def findings(data: bytes) -> list[hl7v2.Finding]:
    return hl7v2.validate(hl7v2.parse(data))


def test_the_corpus_is_what_it_is_meant_to_be() -> None:
    messages = [hl7v2.parse(read(path)) for path in CORPUS]
    events = {f"{message.type[0]}^{message.type[1]}" for message in messages}
    assert events >= {f"ADT^A{number:02}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 28, 31, 34, 40)}
    assert events >= {f"SIU^S{number}" for number in (12, 13, 14, 15, 16, 17, 26)}
    assert events >= {"DFT^P03", "ORM^O01", "ORU^R01", "MDM^T02", "VXU^V04"}
    assert {message.version for message in messages} >= {
        "2.2",
        "2.3",
        "2.3.1",
        "2.4",
        "2.5",
        "2.5.1",
        "2.6",
        "2.7",
        "2.8",
    }


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_realistic_messages_have_no_errors(path: Path) -> None:
    assert [finding for finding in findings(read(path)) if finding.severity == "error"] == []


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_other_delimiters_give_the_same_findings(path: Path) -> None:
    """The fast half knows the default delimiters only: here the slow half does all the work, and agrees."""
    table = bytes.maketrans(b"|^~\\&", b"\x01\x02\x03\x04\x05")
    other = read(path).translate(table).translate(bytes.maketrans(b"\x01\x02\x03\x04\x05", b"#%@!*"))
    if any(mark in read(path) for mark in b"#%@!*"):
        other = read(path).translate(table).translate(bytes.maketrans(b"\x01\x02\x03\x04\x05", b"{}[]$"))
    expected = [(finding.path, finding.code, finding.severity) for finding in findings(read(path))]
    assert [(finding.path, finding.code, finding.severity) for finding in findings(other)] == expected


class Mistake(NamedTuple):
    """A change to a message that has no findings, and the one finding that it must have then."""

    name: str
    message: str
    change: Callable[[bytes], bytes]
    path: str
    code: str
    severity: str
    found: str | None = None


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


def without(name: bytes) -> Callable[[bytes], bytes]:
    """Without the first segment of a name."""
    return moved(name, None)


def moved(name: bytes, before: bytes | None) -> Callable[[bytes], bytes]:
    """The first segment of a name taken out, and put before the first one of another name."""

    def change(data: bytes) -> bytes:
        segments = data.split(b"\r")
        place = next(index for index, segment in enumerate(segments) if segment.startswith(name))
        segment = segments.pop(place)
        if before is not None:
            segments.insert(next(i for i, one in enumerate(segments) if one.startswith(before)), segment)
        return b"\r".join(segments)

    return change


def doubled(name: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        segments = data.split(b"\r")
        place = next(index for index, segment in enumerate(segments) if segment.startswith(name))
        return b"\r".join([*segments[: place + 1], segments[place], *segments[place + 1 :]])

    return change


ADT = "adt_a08_v251_insurance"
ORU = "oru_r01_v251_panels"
MISTAKES = (
    # What the issue names.
    Mistake("segment out of order", ADT, moved(b"NK1", b"EVN"), "NK1", "100", "error", "NK1 after MSH"),
    Mistake("missing PV1", ADT, without(b"PV1"), "PV1", "100", "error", "none before AL1"),
    Mistake("missing PID-3", "adt_a02_v251", swap(b"8001234^^^EPIC^MR", b""), "PID-3", "101", "error", "empty"),
    Mistake(
        "impossible date",
        ADT,
        swap(b"19471105|F||", b"19470229|F||"),
        "PID-7",
        "102",
        "error",
        "date with a day that its month does not have",
    ),
    Mistake("bad user table value", ADT, swap(b"|F||2106-3", b"|X||2106-3"), "PID-8", "103", "warning", "letters(1)"),
    Mistake(
        "bad HL7 table value",
        ORU,
        swap(b"|F|||202507110600", b"|Q|||202507110600"),
        "OBX-11",
        "103",
        "error",
        "letters(1)",
    ),
    Mistake("PID-1 no set id", ADT, swap(b"PID|1|", b"PID|A|"), "PID-1", "102", "error", "letters(1)"),
    Mistake(
        "PID-1 not the first", ADT, swap(b"PID|1|", b"PID|4|"), "PID-1", "102", "warning", "a number out of sequence"
    ),
    Mistake("two PIDs", "adt_a02_v251", doubled(b"PID"), "PID[2]", "100", "error", "PID after PID"),
    Mistake(
        "over-length", ADT, swap(b"FERRARO^GINA", b"F" * 251 + b"^GINA"), "PID-5", "104", "error", "266 characters"
    ),
    Mistake(
        "over-length of a text", ORU, swap(b"LIS-20250711-0091", b"L" * 200), "MSH-10", "104", "error", "200 characters"
    ),
    Mistake(
        "OBR in an ADT", "adt_a02_v251", swap(b"\rPV1", b"\rOBR|1|||7^X^L\rPV1"), "OBR", "100", "error", "OBR after PID"
    ),
    Mistake("OBR after its OBXs", ORU, moved(b"OBR", b"NTE"), "OBR", "100", "error", "none before OBX"),
    Mistake("PV1-2 repeated", ADT, swap(b"PV1|1|O|", b"PV1|1|O~I|"), "PV1-2[2]", "102", "error", "2 repetitions"),
    # Structure.
    Mistake("first segments swapped", "adt_a02_v251", moved(b"PID", b"EVN"), "PID", "100", "error"),
    Mistake(
        "last required segment missing",
        "adt_a05_v25",
        lambda data: without(b"PV2")(without(b"PV1")(data)),
        "PV1",
        "100",
        "error",
        "none up to the end",
    ),
    Mistake("OBR missing", ORU, without(b"OBR"), "OBR", "100", "error"),
    Mistake(
        "MRG missing in the second group",
        "adt_a40_v251",
        lambda data: data[: data.rindex(b"MRG")],
        "MRG[2]",
        "100",
        "error",
    ),
    Mistake("segment of another version", "adt_a02_v251", swap(b"\rPV1", b"\rPRT|1\rPV1"), "PRT", "100", "warning"),
    Mistake("line without a name", "adt_a02_v251", swap(b"\rPV1", b"\rand so on\rPV1"), "", "100", "error"),
    Mistake(
        "name of four characters", "adt_a02_v251", swap(b"\rPV2|", b"\rPV2X|"), "PV2", "100", "error", "a longer name"
    ),
    # Values.
    Mistake(
        "month 13",
        ADT,
        swap(b"|19471105|F||", b"|19471305|F||"),
        "PID-7",
        "102",
        "error",
        "date with an impossible month",
    ),
    Mistake(
        "hour 24",
        ADT,
        swap(b"|20260405100000-0500\rAL1", b"|20260405240000-0500\rAL1"),
        "PV1-44",
        "102",
        "error",
        "date with an impossible hour",
    ),
    Mistake(
        "offset",
        "adt_a01_v28",
        swap(b"20250303030303+0000|||CLERK1", b"20250303030303+1500|||CLERK1"),
        "EVN-2",
        "102",
        "error",
        "date with an impossible offset",
    ),
    Mistake("date with hyphens", ADT, swap(b"|19471105|F||", b"|1947-11-05|F||"), "PID-7", "102", "error", "text(10)"),
    Mistake(
        "six digits of fraction",
        "adt_a02_v251",
        swap(b"|20260302140000||ADT", b"|20260302140000.123456||ADT"),
        "MSH-7",
        "102",
        "warning",
    ),
    Mistake("no number", ORU, swap(b"|3.7|mg/dL", b"|<3.7|mg/dL"), "OBX-5", "102", "error", "text(4)"),
    Mistake("space around a number", ORU, swap(b"|3.7|mg/dL", b"| 3.7|mg/dL"), "OBX-5", "102", "warning"),
    Mistake("unknown value type", ORU, swap(b"OBX|1|NM|", b"OBX|1|XX|"), "OBX-2", "103", "error", "letters(2)"),
    Mistake("value without a type", ORU, swap(b"OBX|1|NM|", b"OBX|1||"), "OBX-2", "101", "error"),
    Mistake("code in another case", ORU, swap(b"|F|||202507110600", b"|f|||202507110600"), "OBX-11", "103", "warning"),
    Mistake("identifier without an id", ADT, swap(b"N-55120^^^NORTH", b"^^^NORTH"), "PID-3.1", "101", "error", "empty"),
    Mistake("ampersand in prose", ORU, swap(b"Results reviewed;", b"Results & notes"), "NTE-3", "102", "warning"),
    Mistake("component too many", ADT, swap(b"AETNA^20260101", b"AETNA^20260101^X"), "PV1-20.3", "102", "warning"),
    Mistake(
        "field too many",
        "adt_a02_v251",
        swap(b"EVN|A02|20260302140000", b"EVN|A02|20260302140000||||||X"),
        "EVN-8",
        "102",
        "warning",
    ),
    Mistake(
        "required field past the end",
        "adt_a02_v251",
        swap(b"PV1|1|I|ICU^12^A^GENHOSP|||4EAST^401^A^GENHOSP|1033112345^SAWYER^THOMAS^A^^DR^MD^^NPI|||MED", b"PV1|1"),
        "PV1-2",
        "101",
        "error",
    ),
    Mistake("set id skipped", ADT, swap(b"IN1|3|", b"IN1|4|"), "IN1[3]-1", "102", "warning"),
    Mistake("set id starts again without a group", ORU, swap(b"OBX|2|", b"OBX|1|"), "OBX[2]-1", "102", "warning"),
    Mistake("withdrawn", "siu_s15_v27", swap(b"PID|1||", b"PID|1|X1|"), "PID-2", "102", "info"),
    # The message as a whole.
    Mistake("unknown event", "adt_a02_v251", swap(b"ADT^A02^ADT_A02", b"ADT^A99^ADT_A02"), "MSH-9.2", "201", "error"),
    Mistake("unknown type", "adt_a02_v251", swap(b"ADT^A02^ADT_A02", b"AXT^A02^ADT_A02"), "MSH-9.1", "200", "error"),
    Mistake(
        "bad code of a named HL7 table",
        ADT,
        swap(b"|CHD^Child^HL70063", b"|X^Child^HL70063"),
        "NK1-3.1",
        "103",
        "warning",
    ),
    Mistake("local event", "adt_a02_v251", swap(b"ADT^A02^ADT_A02", b"ADT^Z02"), "MSH-9", "201", "info"),
    Mistake(
        "event of another version",
        "oru_r01_v28",
        swap(b"ORU^R01^ORU_R01", b"ORM^O01^ORM_O01"),
        "MSH-9.2",
        "201",
        "warning",
    ),
    Mistake(
        "structure of another event",
        "adt_a02_v251",
        swap(b"ADT^A02^ADT_A02", b"ADT^A02^ADT_A01"),
        "MSH-9.3",
        "200",
        "warning",
    ),
    Mistake("unknown version", "adt_a02_v251", swap(b"|2.5.1\r", b"|2.5.9\r"), "MSH-12", "203", "warning"),
    Mistake("no version", "adt_a02_v251", swap(b"|2.5.1\r", b"|\r"), "MSH-12", "101", "error"),
    Mistake("processing id", "adt_a02_v251", swap(b"|P|2.5.1", b"|X|2.5.1"), "MSH-11.1", "103", "error"),
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_each_mistake_has_its_one_finding(mistake: Mistake) -> None:
    data = corpus(mistake.message)
    assert findings(data) == []
    found = findings(mistake.change(data))
    assert [(one.path, one.code, one.severity) for one in found] == [(mistake.path, mistake.code, mistake.severity)]
    assert mistake.found in {None, found[0].found}
    assert found[0].expected
    hl7v2.acknowledge(hl7v2.parse(data), "AE", found, now=NOW, control_id="1")


def test_two_mistakes_have_two_findings_in_the_order_of_the_message() -> None:
    data = without(b"PV1")(corpus("adt_a02_v251")).replace(b"|19800214|", b"|19801314|")
    assert [finding.path for finding in findings(data)] == ["PID-7", "PV1"]
    again = swap(b"\rPV1", b"\rOBR|1|||7^X^L\rPV1")(moved(b"PID", b"EVN")(corpus("adt_a02_v251")))
    assert [finding.path for finding in findings(again)] == ["PID", "OBR"]


def test_no_finding_shows_a_value() -> None:
    secret = b"XQJZKWV"
    data = corpus(ADT).replace(b"GINA", secret).replace(b"19471105", secret).replace(b"|F|", b"|" + secret + b"|")
    found = findings(data.replace(b"ADT^A08", secret + b"^" + secret).replace(b"PID|1", b"PID|" + secret))
    assert len(found) > 5
    assert all(secret.decode() not in repr(finding) for finding in found)


def test_z_segments_may_stand_anywhere() -> None:
    data = corpus("adt_a02_v251")
    assert findings(data.replace(b"\r", b"\rZAB|1|anything^&~goes\r")) == []


def test_null_and_empty_repetitions_are_values() -> None:
    data = corpus(ADT).replace(b"|ROSSI^ANNA|19471105|F|", b'|""|""|""|').replace(b"~^PRN^CP^^1^218^5550192", b"~")
    assert findings(data) == []


def test_set_ids_may_count_on_through_the_message_or_start_again_in_each_group() -> None:
    data = corpus(ORU)
    assert data.count(b"\rOBX|1|") == 4
    count = iter(range(1, 100))
    through = b"\r".join(
        b"OBX|%d|%s" % (next(count), segment.split(b"|", 2)[2]) if segment.startswith(b"OBX|") else segment
        for segment in data.split(b"\r")
    )
    assert findings(through) == []


def test_the_structure_is_found_without_msh_9_3() -> None:
    assert findings(swap(b"ADT^A02^ADT_A02", b"ADT^A02")(corpus("adt_a02_v251"))) == []
    assert findings(swap(b"ORU^R01", b"ORU")(corpus("oru_r01_v22"))) == []


def test_a_flood_of_mistakes_is_bounded() -> None:
    data = corpus("adt_a02_v251") + b"OBX|x|NM|1||y||||||Q\r" * 3000
    found = findings(data)
    assert len(found) == FINDINGS_MAX + 1
    assert found[-1].expected == f"at most {FINDINGS_MAX} findings"


def test_a_flood_of_repetitions_is_bounded() -> None:
    found = findings(swap(b"|F||2106-3", b"|" + b"X~" * 5000 + b"||2106-3")(corpus(ADT)))
    assert len(found) == FINDINGS_MAX + 1
    found = findings(swap(b"|F||2106-3", b"|F" + b"~" * 5000 + b"||2106-3")(corpus(ADT)))
    assert [finding.path for finding in found] == ["PID-8[2]", "PID-8"]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-be"])
def test_findings_do_not_depend_on_how_the_message_is_written(codec: str) -> None:
    data = corpus("adt_a01_v28").replace(b"|19700101|", b"|19701301|")
    written = data.replace(b"\r", b"\r\n").decode().encode(codec)
    assert findings(written) == findings(data)
    assert [finding.path for finding in findings(data)] == ["PID-7"]


def test_lengths_are_counted_in_characters() -> None:
    data = corpus("adt_a02_v251")
    assert (
        findings(data.replace(b"4471240", "ü".encode() * 199).replace(b"|2.5.1\r", b"|2.5.1||||||UNICODE UTF-8\r"))
        == []
    )
    assert findings(data.replace(b"4471240", b"\\T\\" * 199)) == []


def test_what_was_written_is_what_is_validated() -> None:
    message = hl7v2.parse(corpus("adt_a02_v251"))
    assert hl7v2.validate(message) == []
    message.set("PID-7", "yesterday")
    assert [finding.path for finding in hl7v2.validate(message)] == ["PID-7"]


def test_a_long_message_that_does_not_fit_names_the_first_segment() -> None:
    data = corpus(ORU) + b"NTE||L|x\r" * 2500 + b"PV2|||x\r"
    assert ("PV2", "100") in {(finding.path, finding.code) for finding in findings(data)}


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_whatever_parses_can_be_validated(tail: bytes) -> None:
    data = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01^ADT_A01|1|P|2.5.1\r" + tail
    for finding in findings(data):
        assert finding.severity in {"error", "warning", "info"}


@given(
    st.lists(
        st.sampled_from([b"EVN", b"PID", b"PV1", b"OBX", b"ZZZ", b"OBR", b"IN1", b"", b"X", b"PD1|||"]), max_size=12
    )
)
@settings(max_examples=200, deadline=None)
def test_any_order_of_segments_can_be_validated(names: list[bytes]) -> None:
    data = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01^ADT_A01|1|P|2.5.1\r" + b"\r".join(names)
    assert all(finding.code for finding in findings(data))
