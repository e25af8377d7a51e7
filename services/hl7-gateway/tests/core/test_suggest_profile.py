"""Suggested profiles: they take what the messages break, they are profiles, and they hold nothing of the messages."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hl7v2
from hl7_gateway.core.suggest_profile import suggested

GOOD = (
    b"MSH|^~\\&|A|B|C|D|20260301093000||ADT^A08^ADT_A01|c-1|P|2.5.1\rEVN|A08|20260301093000\r"
    b"PID|1||4711^^^EPIC^MR||TEST^SYNTHETIC||19700101|F\rPV1|1|O\r"
)
BREAKS = {
    "PV1 missing": (b"PV1|1|O\r", b""),
    "PV1 twice": (b"PV1|1|O\r", b"PV1|1|O\rPV1|2|O\r"),
    "segment misplaced": (b"EVN|A08|20260301093000\r", b"PV2||x\rEVN|A08|20260301093000\r"),
    "date": (b"19700101", b"CANARY70"),
    "no identifier": (b"4711^^^EPIC^MR", b""),
    "no number": (b"4711^^^EPIC^MR", b"^^^EPIC^MR"),
    "too many": (b"PV1|1|O", b"PV1|1|O~I~E"),
    "too long": (b"|F\r", b"|F" + b"|" * 11 + b"CANARY" * 9 + b"\r"),
    "HL7 table": (b"ADT_A01|c-1|P|", b"ADT_A01|c-1|CANARY|"),
}


def _valid(data: bytes, document: object) -> bool:
    assert isinstance(document, dict)
    found = hl7v2.validate(hl7v2.parse(data), hl7v2.compile_profile(document))
    return all(finding.severity != "error" for finding in found)


@pytest.mark.parametrize("name", BREAKS)
def test_what_one_message_breaks_is_loosened_and_nothing_else(name: str) -> None:
    bad = GOOD.replace(*BREAKS[name])
    assert not _valid(bad, {})
    suggestion = suggested([hl7v2.parse(bad), hl7v2.parse(GOOD)], {})
    assert (suggestion.valid_before, suggestion.valid_after, suggestion.left) == (1, 2, ())
    assert suggestion.changes
    assert "CANARY" not in json.dumps(suggestion.document)
    assert hl7v2.profile_mistakes(suggestion.document) == []
    for other in BREAKS.keys() - {name}:
        assert not _valid(GOOD.replace(*BREAKS[other]), suggestion.document), other


def test_what_is_in_force_stays() -> None:
    before = {"fields": {"PID-7": {"ignore": ["length"]}}, "severity": {"case": "error"}}
    bad = GOOD.replace(*BREAKS["date"])
    after = suggested([hl7v2.parse(bad)], before).document
    assert after == {"fields": {"PID-7": {"ignore": ["length", "data-type"]}}, "severity": {"case": "error"}}
    assert before["fields"] == {"PID-7": {"ignore": ["length"]}}


def test_a_type_that_nobody_knows_is_left_for_a_person() -> None:
    suggestion = suggested([hl7v2.parse(GOOD.replace(b"ADT^A08^ADT_A01", b"QQQ^Q01"))], {})
    assert suggestion.changes == ()
    assert [(kind.code, number) for kind, number in suggestion.left] == [("200", 1)]


def test_the_corpus_needs_no_profile() -> None:
    corpus = sorted((Path(__file__).parents[4] / "libs/hl7v2/tests/corpus").glob("*.hl7"))
    messages = [hl7v2.parse(path.read_bytes().replace(b"\n", b"\r")) for path in corpus]
    assert suggested(messages, {}).changes == ()


@given(st.lists(st.lists(st.sampled_from(list(BREAKS)), unique=True, max_size=3), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_suggestion_never_makes_a_message_worse(feeds: list[list[str]]) -> None:
    messages = []
    for breaks in feeds:
        data = GOOD
        for name in breaks:
            data = data.replace(*BREAKS[name])
        messages.append(hl7v2.parse(data))
    suggestion = suggested(messages, {})
    assert suggestion.valid_after >= suggestion.valid_before
    assert suggestion.left or suggestion.valid_after == len(messages)
