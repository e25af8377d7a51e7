"""What a sender is answered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7v2.acknowledgment import Mode, codes_wanted, mode_of

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def sent(version: str = "2.5.1", event: str = "ADT^A01^ADT_A01", charset: str = "") -> hl7v2.Message:
    return hl7v2.parse(
        f"MSH|^~\\&|EPIC|DEMO|PS|HOME|2026||{event}|C\\T\\1|T|{version}||||||{charset}\rPID|1\r".encode()
    )


def answer(message: hl7v2.Message, code: str = "AA", *findings: hl7v2.Finding) -> hl7v2.Message:
    return hl7v2.acknowledge(message, code, findings, now=NOW, control_id="OURS1")


def test_applications_are_swapped_and_the_rest_is_the_senders() -> None:
    reply = answer(sent(charset="UNICODE UTF-8"))
    header = [reply[f"MSH-{field}"] for field in (3, 4, 5, 6, 7, 10, 11, 12, 18)]
    assert header == ["PS", "HOME", "EPIC", "DEMO", "20260301093000+0000", "OURS1", "T", "2.5.1", "UNICODE UTF-8"]
    assert (reply["MSA-1"], reply["MSA-2"]) == ("AA", "C&1")


@pytest.mark.parametrize(
    ("version", "event", "expected"),
    [
        ("2.1", "ADT^A01", "ACK"), ("2.2", "ADT^A01", "ACK^A01"), ("2.3", "ADT^A01", "ACK^A01"),
        ("2.3.1", "ADT^A01^ADT_A01", "ACK^A01^ACK"), ("2.4", "ADT^A01", "ACK^A01^ACK"),
        ("2.8.2", "ADT^A01^ADT_A01", "ACK^A01^ACK"), ("", "ADT^A01", "ACK^A01^ACK"),
        ("2.8", "SIU^S12", "ACK^S12^ACK"), ("2.5", "ADT", "ACK"),
    ],
)  # fmt: skip
def test_the_message_type_follows_the_version(version: str, event: str, expected: str) -> None:
    assert answer(sent(version, event))["MSH-9"] == expected


def test_errors_are_located_in_the_versions_own_way() -> None:
    finding = hl7v2.Finding("PID-3[2].4", "101", "error", "an id", "", "")
    new = answer(sent("2.5.1"), "AE", finding)
    assert (new["ERR-2"], new["ERR-3.1"], new["ERR-4"], new["ERR-8"]) == ("PID^1^3^2^4", "101", "E", "an id")
    old = answer(sent("2.3"), "AE", finding)
    assert old["ERR-1"] == "PID^1^3^101&Required field missing&HL70357"


def test_unknown_acknowledgment_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="not an acknowledgment code"):
        answer(sent(), "OK")


def test_bytes_without_a_header_get_a_rejection_that_is_a_message() -> None:
    reply = hl7v2.reject_unparsable(now=NOW, control_id="OURS1", text="begin with MSH")
    assert (reply["MSA-1"], reply["MSH-9"], reply["ERR-8"]) == ("AR", "ACK", "begin with MSH")


@given(st.binary(max_size=120))
def test_every_message_can_be_answered(rest: bytes) -> None:
    try:
        message = hl7v2.parse(b"MSH|^~\\&|" + rest)
    except hl7v2.ParseError:
        return
    assert answer(message)["MSA-1"] == "AA"


@pytest.mark.parametrize("marks", ["^", "^~", "^~\\", "^~\\&", "^~\\&#", "*%?@"])
def test_senders_with_few_delimiters_are_told_what_is_wrong(marks: str) -> None:
    message = hl7v2.parse(f"MSH|{marks}|EPIC|DEMO|PS|HOME|2026||ADT|C1|P|2.5.1\rPID|1\r".encode())
    reply = answer(message, "AR", hl7v2.Finding("MSH-9", "200", "error", "ADT^A01 & ~ \\ |", "", ""))
    assert reply.segment_names() == ["MSH", "MSA", "ERR"]
    assert (reply["MSA-2"], reply["ERR-3.1"], reply["ERR-8"][:3]) == ("C1", "200", "ADT")


@pytest.mark.parametrize(
    ("path", "new", "old"), [("PV1", "PV1^1", "PV1^1^"), ("OBX[3]", "OBX^3", "OBX^3^"), ("", "", "^^")]
)
def test_a_segment_or_the_whole_message_can_be_at_fault(path: str, new: str, old: str) -> None:
    finding = hl7v2.Finding(path, "100", "error", "", "", "")
    assert answer(sent("2.6"), "AE", finding)["ERR-2"] == new
    assert answer(sent("2.4"), "AE", finding)["ERR-1"].startswith(f"{old}^100&")


@pytest.mark.parametrize("declared", ["UNICODE", "8859/1", "EBCDIC"])
def test_a_wrong_character_set_is_not_repeated(declared: str) -> None:
    message = hl7v2.parse(f"MSH|^~\\&|ÉPIC|D|P|H|2026||ADT^A01|C1|P|2.5.1||||||{declared}\rPID|1\r".encode())
    reply = answer(message)
    assert (reply["MSH-5"], reply["MSH-18"], reply["MSA-1"]) == ("ÉPIC", "", "AA")


def test_the_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        hl7v2.acknowledge(sent(), "AA", now=NOW.replace(tzinfo=None), control_id="OURS1")


FIELDS = st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"|", b"")), min_size=10, max_size=18)


@given(st.sampled_from(["^", "^~", "^~\\&", "*%?@"]), FIELDS)
def test_whatever_the_header_holds_it_is_answered_with_errors(marks: str, fields: list[bytes]) -> None:
    message = hl7v2.parse(b"|".join((b"MSH", marks.encode(), *fields)))
    finding = hl7v2.Finding("MSH-9.1", "200", "error", "ADT^A01", "", "")
    reply = answer(message, "AR", finding)
    assert (reply["MSA-1"], reply.segment_names()) == ("AR", ["MSH", "MSA", "ERR"])


def test_a_line_feed_of_the_senders_ends_no_segment_of_the_reply() -> None:
    message = hl7v2.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C\n1|P|2.5.1\rPID|1\r")
    reply = answer(message)
    assert (reply["MSA-2"], reply.segment_names()) == (message["MSH-10"], ["MSH", "MSA"])


def test_without_a_time_and_an_id_the_reply_is_made_of_the_message() -> None:
    message = sent()
    reply, again = hl7v2.acknowledge(message, "AA"), hl7v2.acknowledge(message, "AA")
    assert (reply["MSH-7"], len(reply["MSH-10"]), bytes(reply)) == ("2026", 20, bytes(again))
    assert reply["MSH-10"] != hl7v2.acknowledge(sent("2.4"), "AA")["MSH-10"]


@pytest.mark.parametrize(
    ("version", "located", "text"),
    [
        ("2.1", "PID^1^3^101", "an id"), ("2.2", "PID^1^3^101", "an id"),
        ("2.3", "PID^1^3^101&Required field missing&HL70357", "an id"),
        ("2.4", "PID^1^3^101&Required field missing&HL70357", "an id"), ("2.10", "", ""), ("2.5", "", ""),
        ("nonsense", "", ""), ("", "", ""),
    ],
)  # fmt: skip
def test_before_2_5_the_words_stand_in_msa(version: str, located: str, text: str) -> None:
    finding = hl7v2.Finding("PID-3[2].4", "101", "error", "an id", "", "")
    reply = answer(sent(version), "AE", finding)
    assert (reply["ERR-1"], reply["MSA-3"]) == (located, text)
    assert (reply["ERR-8"] == "an id") is (not located)


@pytest.mark.parametrize(
    "version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2"]
)
def test_the_reply_is_right_by_the_rules_of_the_version(version: str) -> None:
    findings = [
        hl7v2.Finding("PID-3[2].4", "101", "error", "an id, " * 20, "", ""),
        hl7v2.Finding("OBX[3]", "100", "warning", "an order", "", ""),
    ]
    for code in ("AA", "AE", "AR", "CA", "CE", "CR"):
        if code[0] == "C" and version == "2.1":
            continue  # table 0008 had no accept acknowledgments yet
        reply = answer(sent(version), code, *findings)
        assert [one for one in hl7v2.validate(reply) if one.severity == "error"] == []
        assert len(reply.segments("ERR")) == (2 if version >= "2.5" else 1)
        assert bool(reply["ERR-1"]) is (version < "2.5") is bool(reply["MSA-3"])
        assert len(reply["MSA-3"]) <= 80


def test_processing_id_and_version_are_the_senders_with_all_their_parts() -> None:
    message = hl7v2.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C1|T^A|2.5.1^USA&x^1\rPID|1\r")
    reply = answer(message)
    assert [reply[f"MSH-{field}"] for field in (11, 12)] == ["T^A", "2.5.1^USA&x^1"]
    assert answer(hl7v2.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C1|T\rPID|1\r"))["MSH-12"] == "2.5.1"


def test_every_finding_is_told() -> None:
    findings = [hl7v2.Finding(f"OBX[{number}]-5", "102", "warning", "a number", "", "") for number in (1, 2)]
    new, old = answer(sent("2.7"), "AA", *findings), answer(sent("2.4"), "AA", *findings)
    assert [segment["2"] + segment["4"] for segment in new.segments("ERR")] == ["OBX^1^5^1W", "OBX^2^5^1W"]
    assert old.repetitions("ERR-1") == 2


@pytest.mark.parametrize(
    ("tail", "location"),
    [("PID|1" + "|" * 12_000 + "x\r", "PID^1^12001^1"), ("PID|1||" + "^" * 12_000 + "x\r", "PID^1^3^1^11")],
)
def test_a_finding_far_out_is_told_like_any_other(tail: str, location: str) -> None:
    message = hl7v2.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01^ADT_A01|C1|P|2.5.1\r" + tail.encode())
    reply = answer(message, "AE", *hl7v2.validate(message))
    assert location in [segment["2"] for segment in reply.segments("ERR")]


def test_of_a_flood_of_character_sets_a_few_are_repeated() -> None:
    message = hl7v2.parse(b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C1|P|2.5.1||||||ASCII" + b"~8859/1" * 1_000 + b"\rPID|1\r")
    assert answer(message).repetitions("MSH-18") == 20


def asked(accept: str, application: str) -> hl7v2.Message:
    return hl7v2.parse(f"MSH|^~\\&|A|B|C|D|2026||ADT^A01|C1|P|2.5.1|||{accept}|{application}\r".encode())


@pytest.mark.parametrize(
    ("accept", "application", "given"),
    [
        ("", "", (("AA",), ("AE",), ("AR",))),
        ("AL", "AL", (("CA", "AA"), ("CE",), ("CR",))),
        ("AL", "NE", (("CA",), ("CE",), ("CR",))),
        ("NE", "AL", (("AA",), ("AE",), ("AR",))),
        ("AL", "", (("CA",), ("CE",), ("CR",))),
        ("", "AL", (("AA",), ("AE",), ("AR",))),
        ("ER", "SU", (("AA",), ("CE",), ("CR",))),
        ("SU", "ER", (("CA",), ("AE",), ("AR",))),
        ("NE", "NE", ((), (), ())),
        (" al ", "ne", (("CA",), ("CE",), ("CR",))),
        ("ALWAYS", '""', (("CA",), ("CE",), ("CR",))),
    ],
)
def test_which_acknowledgments_are_wanted(accept: str, application: str, given: tuple[tuple[str, ...], ...]) -> None:
    message = asked(accept, application)
    assert mode_of(message) is (Mode.ENHANCED if accept or application else Mode.ORIGINAL)
    assert tuple(codes_wanted(message, code) for code in ("AA", "AE", "AR")) == given
    with pytest.raises(ValueError, match="not an application acknowledgment code"):
        codes_wanted(message, "CA")


@pytest.mark.parametrize("code", ["CA", "CE", "CR"])
def test_accept_acknowledgments_are_written_like_the_others(code: str) -> None:
    reply = answer(asked("AL", "AL"), code)
    assert (reply["MSA-1"], reply["MSA-2"], reply["MSH-15"], reply["MSH-16"]) == (code, "C1", "", "")


def test_the_senders_delimiters_are_kept() -> None:
    message = hl7v2.parse(b"MSH$*%?@$A*1$B$C*2$D$2026$$ADT*A01$X$P$2.3.1\rPID$1\r")
    reply = answer(message, "AE", hl7v2.Finding("PID-3", "101", "error", "one $ or more", "", ""))
    assert bytes(reply).startswith(b"MSH$*%?@$C*2$D$A*1$B$20260301093000+0000$$ACK*A01*ACK$OURS1$P$2.3.1\r")
    assert (reply["MSA-3"], reply["ERR-1"]) == ("one $ or more", "PID*1*3*101@Required field missing@HL70357")
