"""Nothing that identifies a person is left, wherever it stood; what is left is still a message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hl7v2
from hl7v2.deidentification import RESTRICTED_ZIP_PREFIXES, Pseudonyms

TODAY = date(2026, 3, 1)


def counting() -> Callable[[], str]:
    """A source of chance that is none: N1, N2, …"""
    numbers = count(1)
    return lambda: f"N{next(numbers)}"


def left(text: str, pseudonyms: Pseudonyms | None = None) -> hl7v2.Message:
    message = hl7v2.parse(text.replace("\n", "\r").encode())
    return hl7v2.deidentify(message, pseudonyms or Pseudonyms(counting()), today=TODAY)


HEAD = "MSH|^~\\&|EPIC|SPRINGFIELD|PS|HOME|20260301093000||ORU^R01^ORU_R01|CTL-77|P|2.5.1|||AL|NE||UNICODE UTF-8\n"


def test_what_is_left_of_a_message() -> None:
    message = left(
        HEAD + "PID|1||4711^^^EPIC^MR~123-45-6789^^^USA^SS||Rivera^Alma||19800214|F||2106-3^White^CDCREC|"
        "1 Main St^^Boston^MA^02139-1234^USA||617 555 0100|||M||ACC-9|123-45-6789\n"
        f"PV1|1|I|WEST^12^B|E||||1234^Doctor|||||||||9^Other|S|V-1{'|' * 25}20260228|20260301\n"
        "ORC|RE|PL-1|FI-1\n"
        "OBR|1|PL-1|FI-1|718-7^Hemoglobin^LN|||202602281200|||||||||1234^Doctor||||||202603010800||LAB|F\n"
        "NTE|1||Alma was here\n"
        "OBX|1|NM|718-7^Hemoglobin^LN||13.5|g/dL|12.0-16.0|N|||F|||20260228\n"
        "OBX|2|TX|NOTE^Note^L||Alma Rivera is well||||||F\n"
        "OBX|3|ED|PDF^Report^L||^AP^PDF^Base64^QWxtYQ==||||||F\n"
        "OBX|4|CWE|8302-2^x^LN||Z72.0^Tobacco^I10^local text^^L||||||F\n"
        "OBX|5|SN|2160-0^x^LN||>^1.5^-^2||||||F\n"
        "ZPI|Alma\n"
    )
    assert bytes(message).decode().split("\r") == [
        "MSH|^~\\&|N1|N2|N3|N4|2026||ORU^R01^ORU_R01|N5|P|2.5.1|||AL|NE",
        "PID|1||N6^^^N1^MR~N7^^^N8^SS||REMOVED||1980|F||2106-3^^CDCREC|^^^MA^021^USA|||||M||N9",
        f"PV1|1|I||E|||||||||||||||N10{'|' * 25}2026|2026",
        "ORC|RE|N11|N12",
        "OBR|1|N11|N12|718-7^^LN|||2026|||||||||||||||2026||LAB|F",
        "OBX|1|NM|718-7^^LN||13.5|g/dL|12.0-16.0|N|||F|||2026",
        "OBX|2||||||||||F",
        "OBX|3||||||||||F",
        "OBX|4|CWE|8302-2^^LN||Z72.0^^I10||||||F",
        "OBX|5|SN|2160-0^^LN||>^1.5^-^2||||||F",
        "",
    ]


@pytest.mark.parametrize(
    ("birth", "kept"),
    [
        ("19800214", "1980"), ("1937", "1937"), ("1936", ""), ("19360302", ""), ("18900101", ""), ("20280101", "2028"),
        ("20290101", ""), ("soon", ""), ("1980-02-14", ""), ("19800214120000.12-0500", "1980"), ("١٩٨٠", ""),
    ],
)  # fmt: skip
def test_who_may_be_over_89_has_no_year_of_birth(birth: str, kept: str) -> None:
    assert left(f"{HEAD}PID|1||1||X||{birth}")["PID-7"] == kept


@pytest.mark.parametrize(
    ("observation", "kind", "kept"),
    [
        ("NM|30525-0^Age^LN||89|a", "NM", "89"),
        ("NM|30525-0^Age^LN||90|a", "ST", "90+"),
        ("NM|L1^Age^L^30525-0^^LN||104", "ST", "90+"),
        ("SN|21612-7^Age^LN||=^97", "ST", "90+"),
        ("NM|30525-0^Age^LN||97|mo", "NM", "97"),
        ("NM|30525-0^Age^LN||1080|mo", "ST", "90+"),
        ("NM|8867-4^Heart rate^LN||97|/min", "NM", "97"),
        ("ST|30525-0^Age^LN||97 years", "", ""),
    ],
)
def test_ages_over_89_are_one(observation: str, kind: str, kept: str) -> None:
    message = left(f"{HEAD}OBX|1|{observation}")
    assert (message["OBX-2"], message["OBX-5"]) == (kind, kept)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("1 St^^Boston^MA^02139^USA", "^^^MA^021^USA"),
        ("^^^ma^02139-1234^us", "^^^MA^021^US"),
        ("^^^VT^05901", "^^^VT^000"),
        ("^^^MN^55601^USA", "^^^MN^000^USA"),
        ("^^^MA^021391", "^^^MA"),
        ("^^^Boston^02139", "^^^^021"),
        ("^^^ON^M5V 3L9^CAN", "^^^^^CAN"),
        ("^^^^10115^DEU", "^^^^^DEU"),
        ("^^^^12345^Alma", ""),
    ],
)
def test_zip_codes_keep_three_digits_where_enough_people_live(address: str, kept: str) -> None:
    written = bytes(left(f"{HEAD}PID|1||1||||||||{address}")).decode().split("\r")[1].split("|")
    assert (written[11] if len(written) > 11 else "") == kept


def test_the_restricted_areas_are_those_of_the_guidance() -> None:
    assert len(RESTRICTED_ZIP_PREFIXES) == 17
    assert {"036", "692", "878", "893"} <= RESTRICTED_ZIP_PREFIXES


def test_identifiers_are_the_same_within_a_bundle_and_others_in_the_next() -> None:
    bundle, numbers = Pseudonyms(counting()), count(1)
    first, second = (left(f"{HEAD}PID|1||4711^^^EPIC^MR", bundle) for _ in range(2))
    assert first["PID-3.1"] == second["PID-3.1"] == "N6"
    merged = left(f"{HEAD}PID|1||9^^^EPIC^MR\nMRG|4711^^^EPIC^MR", bundle)
    assert (merged["MRG-1.1"], merged["PID-3.1"]) == ("N6", "N7")
    assert left(f"{HEAD}PID|1||4711^^^EPIC^MR", Pseudonyms(lambda: f"X{next(numbers)}"))["PID-3.1"] == "X6"


def test_a_source_of_chance_that_repeats_itself_is_refused() -> None:
    stuck = Pseudonyms(lambda: "same")
    assert stuck.of("a") == stuck.of(" a ") == "same"
    with pytest.raises(ValueError, match="no new texts"):
        stuck.of("b")
    with pytest.raises(ValueError, match="no new texts"):
        Pseudonyms(lambda: "a|b").of("a")


CANARIES = [
    "Rivera", "ALMA RIVERA", "Núñez", "123-45-6789", "123456789", "(617) 555-0100", "6175550100", "alma@example.test",
    "http://example.test/alma", "192.0.2.7", "MRN0012345", "4711-0815", "02139", "02139-1234", "19360214", "1980-02-14",
    "1 Main Street", "Springfield", "97 years", "Dr. Alma", "QWxtYSBSaXZlcmE=", "A12B34C56", "DL 99887766",
    "VIN1HGCM826", "555-0100", "555-1234", "12345",
]  # fmt: skip
NAMES = ["MSA", "EVN", "PID", "MRG", "PV1", "PV2", "NK1", "GT1", "IN1", "ORC", "OBR", "OBX", "NTE", "AL1", "DG1", "PR1",
         "SCH", "AIS", "RXA", "FT1", "TXA", "ZPI", "ZZZ", "PD1", "ROL", "CTD"]  # fmt: skip
"""Of the identifiers of 164.514(b)(2)(i): names, numbers of every kind, addresses, dates, ages, pictures."""
SEPARATORS = ["^", "&", "~", "^^^", "~^", "^&"]
PLACES = st.lists(st.tuples(st.sampled_from(CANARIES), st.sampled_from(SEPARATORS)), min_size=1, max_size=4).map(
    lambda parts: "".join(text + mark for text, mark in parts)
)
FIELDS = st.lists(st.just("") | PLACES, min_size=1, max_size=52)


@given(st.lists(st.tuples(st.sampled_from(NAMES), FIELDS), max_size=5), FIELDS)
def test_a_canary_is_found_nowhere(segments: list[tuple[str, list[str]]], header: list[str]) -> None:
    lines = ["MSH|^~\\&|" + "|".join(header), *("|".join([name, *fields]) for name, fields in segments)]
    message = hl7v2.parse("".join(f"{line}\r" for line in lines).encode())
    written = bytes(hl7v2.deidentify(message, Pseudonyms(counting()), today=TODAY)).decode("ascii")
    for canary in CANARIES:
        assert canary.lower() not in written.lower()
    assert "0214" not in written


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("canary", CANARIES)
def test_a_canary_in_every_field_of_a_segment(name: str, canary: str) -> None:
    row = "|".join(f"{canary}^{canary}^LN^{canary}&{canary}^{canary}~{canary}" for _ in range(60))
    kinds = ("TX", "ED", "CWE", "XPN") if name == "OBX" else ("",)
    for kind in kinds:
        line = f"{name}|1|{kind}|{row}" if kind else f"{name}|{row}"
        written = bytes(left(HEAD.replace("EPIC", canary) + line)).decode("ascii")
        assert canary.lower() not in written.lower()


@given(st.binary(max_size=200))
def test_any_message_can_be_deidentified(rest: bytes) -> None:
    message = hl7v2.parse(b"MSH|^~\\&|" + rest.replace(b"PHI", b"") + b"\rPID|" + rest + b"\rOBX|1|NM|" + rest)
    result = hl7v2.deidentify(message, Pseudonyms(counting()), today=TODAY)
    assert bytes(result).isascii()
    assert set(result.segment_names()) <= {"MSH", "PID", "OBX", "MSA", "EVN", "MRG"}


def hexadecimal(text: str) -> str:
    """All of a text as one escape sequence."""
    return f"\\X{text.encode().hex().upper()}\\"


DISGUISES: dict[str, Callable[[str], bytes]] = {
    "other delimiters": lambda text: text.translate(str.maketrans("|^~\\&", "#%@!*")).encode(),
    "few delimiters": lambda text: text.replace("MSH|^~\\&|", "MSH|^|", 1).encode(),
    "the truncation character": lambda text: text.replace("MSH|^~\\&|", "MSH|^~\\&#|", 1).encode(),
    "line feeds": lambda text: text.replace("\r", "\n").encode(),
    "both line ends": lambda text: text.replace("\r", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "Latin-1": lambda text: text.encode("latin-1"),
    "two messages in one": lambda text: (text + text).encode(),
    "no last line end": lambda text: text.rstrip("\r").encode(),
}
WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in hexadecimal": hexadecimal,
    "highlighted": lambda text: f"\\H\\{text}\\N\\",
    "in a subcomponent": lambda text: f"&{text}&{text}",
    "in a late repetition": lambda text: "~" * 5 + text,
    "behind the null": lambda text: f'""~{text}^{text}',
    "with spaces": lambda text: f"  {text}  ",
    "in parts": lambda text: f"\\.br\\{text}\\.sp2\\",
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("writing", WRITINGS)
def test_a_canary_in_an_odd_place_is_found_nowhere(disguise: str, writing: str) -> None:
    """Every field of every segment, however the message and the value are written."""
    for canary in ("Rivera", "Núñez", "123-45-6789", "6175550100", "02139", "alma@example.test", "MRN0012345"):
        value = WRITINGS[writing](canary)
        row = "|".join([value] * 55)
        lines = ["MSH|^~\\&|" + "|".join([value] * 20), *(f"{name}|{row}" for name in NAMES)]
        lines += [f"OBX|1|{kind}|{row}" for kind in ("NM", "SN", "CWE", "DT", "TX", value)]
        lines += [f"{canary}|{row}", f"pid|{row}", f"PID{canary}|{row}", canary, f"MSH|^~\\&|{row}"]
        message = hl7v2.parse(DISGUISES[disguise]("".join(f"{line}\r" for line in lines)))
        result = hl7v2.deidentify(message, Pseudonyms(counting()), today=TODAY)
        written = bytes(result).decode("ascii")
        assert canary.casefold() not in written.casefold()
        read = " ".join(value for segment in result for value in segment.values())
        assert canary.casefold() not in read.casefold()
