"""The two halves of the validator agree: a field that its pattern takes has no problem."""

import re
from calendar import isleap, monthrange

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hl7v2.data_types import is_valid, one_of, value_class
from hl7v2.escape import DEFAULT
from hl7v2.inspection import Inspection
from hl7v2.plans import compiled_for
from hl7v2.profile import Profile
from hl7v2.rules import FieldRule
from hl7v2.standard import VERSIONS

PROFILE = Profile()
FIELDS = (
    b"PID-3", b"PID-5", b"PID-7", b"PID-8", b"PID-11", b"PID-13", b"PV1-2", b"PV1-3", b"PV1-7", b"PV1-44", b"EVN-2",
    b"OBX-3", b"OBX-8", b"OBX-11", b"OBR-4", b"NK1-3", b"AL1-2", b"MSH-11", b"MSH-12", b"IN1-12", b"FT1-11",
)  # fmt: skip
PIECES = (
    "", "A", "F", "20260228", "20260230", "202602", "20260228093000.1234+0100", "24", "3.7", "-1.", "é", "HL70001",
    "LN", "I10", '""', " ", "F ", "P", "ISO", "x" * 30, "y" * 300, "^", "^", "^^^", "~", "&", "L", "MR", "\\T\\",
    "Y", "0", "99",
)  # fmt: skip


def rule_of(version: str, field: bytes) -> tuple[FieldRule | None, object]:
    compiled = compiled_for(PROFILE, version.encode(), b"^")
    name, number = field.split(b"-")
    plan = compiled.plans[name]
    place = int(number) - (1 if name == b"MSH" else 0)
    if int(number) > len(plan.fields):
        return None, None
    return plan.fields[int(number) - 1], plan.checks[place]


@given(st.sampled_from(VERSIONS), st.sampled_from(FIELDS), st.lists(st.sampled_from(PIECES), min_size=1, max_size=9))
@example("2.5.1", b"PID-3", ["1", "^^^", "A", "&", "1.2", "&", "ISO"])
@settings(max_examples=1500, deadline=None)
def test_what_a_pattern_takes_has_no_problem(version: str, field: bytes, pieces: list[str]) -> None:
    text = "".join(pieces)
    rule, check = rule_of(version, field)
    if rule is None or not text:
        return
    problems = list(Inspection(compiled_for(PROFILE, version.encode(), b"^").types, DEFAULT).field(rule, text))
    assert callable(check)
    if check(text.encode()):
        assert problems == []


@pytest.mark.parametrize(
    ("version", "field", "value"),
    [
        ("2.5.1", b"PID-3", b"8001234^^^EPIC&1.2.840.114350&ISO^MR~Z10023^^^EPIC^PI"),
        ("2.5.1", b"PID-5", b"RIVERA&VAN&RIVERA^ALMA^J^^MS^^L"),
        ("2.5.1", b"PID-7", b"19800214"),
        ("2.5.1", b"PID-7", b"20000229093000.1234-0600"),
        ("2.3", b"PID-7", b"1980"),
        ("2.5.1", b"PID-8", b"F"),
        ("2.8", b"PID-8", b"F^Female^HL70001"),
        ("2.5.1", b"PID-13", b"^PRN^PH^^1^217^5550123~^NET^Internet^a@example.org"),
        ("2.5.1", b"OBX-11", b"F"),
        ("2.5.1", b"OBR-4", b"24323-8^Panel^LN^CMP^CMP^L"),
        ("2.5.1", b"PV1-7", b"1033112345^SAWYER^THOMAS^A^^DR^MD^^NPI^L^^^NPI"),
        ("2.3", b"PV1-44", b"202401311530"),
    ],
)
def test_patterns_take_what_senders_write(version: str, field: bytes, value: bytes) -> None:
    """Too strict a pattern costs time only, so nothing else would tell."""
    _, check = rule_of(version, field)
    assert callable(check)
    assert check(value)


@given(
    st.sets(st.text(alphabet="AB1-.", min_size=1, max_size=4), min_size=1, max_size=20),
    st.text(alphabet="AB1-.", max_size=5),
)
@settings(deadline=None)
def test_a_tree_of_values_matches_exactly_them(values: set[str], text: str) -> None:
    pattern = re.compile(one_of(values))
    assert all(pattern.fullmatch(value) for value in values)
    assert (pattern.fullmatch(text) is not None) == (text in values)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "empty"), ('""', "null"), ("Smith", "letters(5)"), ("1234", "digits(4)"), ("A12", "letters and digits(3)"),
        ("12-34", "text(5)"), ("   ", "spaces(3)"), ("Núñez", "letters(5)"), ("a b", "text(3)"),
    ],
)  # fmt: skip
def test_values_are_named_by_class(text: str, shown: str) -> None:
    assert value_class(text) == shown


@pytest.mark.parametrize("kind", ["DT", "DTM"])
def test_every_last_of_february_is_that_of_the_calendar(kind: str) -> None:
    for year in range(1, 10_000):
        assert is_valid(kind, f"{year:04}0229") is isleap(year), year
    assert [is_valid(kind, f"2026{month:02}{day:02}") for month in range(14) for day in (30, 31)] == [
        month in range(1, 13) and day <= monthrange(2026, month)[1] for month in range(14) for day in (30, 31)
    ]
