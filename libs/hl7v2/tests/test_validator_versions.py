"""The ten mistakes that no validator may miss, each at its place, in every version that is in use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hl7v2

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2")


def adt(version: str) -> list[str]:
    return [
        f"MSH|^~\\&|EPIC|DEMO|PS|HOME|20260301093000||ADT^A01{'' if version == '2.3' else '^ADT_A01'}|C1|P|{version}",
        f"EVN|{'' if version >= '2.7' else 'A01'}|20260301093000",  # withdrawn in 2.7
        "PID|1||4711^^^EPIC^MR||RIVERA^ALMA^^^^^L||19800214|F",
        "NK1|1|RIVERA^PAT^^^^^L",
        "PV1|1|I",
    ]


def oru(version: str) -> list[str]:
    return [
        f"MSH|^~\\&|LAB|DEMO|PS|HOME|20260301093000||ORU^R01{'' if version == '2.3' else '^ORU_R01'}|C2|P|{version}",
        "PID|1||4711^^^EPIC^MR||RIVERA^ALMA^^^^^L||19800214|F",
        "PV1|1|O",
        "OBR|1|P1|F1|718-7^Hemoglobin^LN|||20260301080000|||||||||||||||20260301090000||LAB|F",
        "OBX|1|NM|718-7^Hemoglobin^LN|1|13.5|g/dL|12.0-16.0|N|||F|||20260301080000",
    ]


class Mistake(NamedTuple):
    """A change to segments without findings, and where it must be told, with which code of table 0357."""

    name: str
    message: Callable[[str], list[str]]
    change: Callable[[list[str]], list[str]]
    path: str
    code: str
    severity: str = "error"


def swapped(first: int, second: int) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        lines[first], lines[second] = lines[second], lines[first]
        return lines

    return change


def without(place: int) -> Callable[[list[str]], list[str]]:
    return lambda lines: lines[:place] + lines[place + 1 :]


def doubled(place: int) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:place], lines[place], *lines[place:]]


def inserted(place: int, line: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:place], line, *lines[place:]]


def changed(place: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    def change(lines: list[str]) -> list[str]:
        assert old in lines[place]
        lines[place] = lines[place].replace(old, new, 1)
        return lines

    return change


MISTAKES = (
    Mistake("segment out of order", adt, swapped(3, 4), "NK1", "100"),
    Mistake("missing PV1", adt, without(4), "PV1", "100"),
    Mistake("missing PID-3", adt, changed(2, "4711^^^EPIC^MR", ""), "PID-3", "101"),
    Mistake("impossible date", adt, changed(2, "19800214", "19800230"), "PID-7", "102"),
    Mistake("bad table value", oru, changed(4, "|F|||2026", "|Q|||2026"), "OBX-11", "103"),
    Mistake("bad value of a user's table", adt, changed(2, "|F", "|Q"), "PID-8", "103", "warning"),
    Mistake("PID-1 no set id", adt, changed(2, "PID|1|", "PID|A|"), "PID-1", "102"),
    Mistake("two PIDs", adt, doubled(2), "PID[2]", "100"),
    Mistake("over-length", adt, changed(0, "|C1|", f"|{'C' * 200}|"), "MSH-10", "104"),
    Mistake("an OBR out of place", adt, inserted(3, "OBR|1|||7^X^L"), "OBR", "100"),
    Mistake("an OBR behind its OBX", oru, swapped(3, 4), "OBR", "100"),
    Mistake("PV1-2 repeated", adt, changed(4, "|I", "|I~O"), "PV1-2[2]", "102"),
)


def findings(lines: list[str]) -> list[hl7v2.Finding]:
    return hl7v2.validate(hl7v2.parse("".join(f"{line}\r" for line in lines).encode()))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("made", [adt, oru])
def test_without_a_mistake_there_is_nothing_to_tell(made: Callable[[str], list[str]], version: str) -> None:
    assert findings(made(version)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_each_mistake_is_told_at_its_place(mistake: Mistake, version: str) -> None:
    found = findings(mistake.change(mistake.message(version)))
    path, severity = mistake.path, mistake.severity
    if version >= "2.7":
        path = {"PID-8": "PID-8.1"}.get(path, path)  # a CWE since then
        severity = "warning" if mistake.code == "104" else severity  # lengths are what partners agree on since then
    assert [(one.path, one.code, one.severity) for one in found] == [(path, mistake.code, severity)]
    assert all(one.expected and one.found for one in found)


CANARY = "Xq7Zw9Kv"
NAMES = ("MSH", "EVN", "PID", "PD1", "NK1", "PV1", "PV2", "OBR", "OBX", "AL1", "DG1", "IN1", "ZZZ", "SCH", "NTE", "QQQ")
PIECES = st.sampled_from(
    [CANARY, f"{CANARY}^{CANARY}", f"{CANARY}&{CANARY}~{CANARY}", f" {CANARY}", f"1{CANARY}", "", "\\F\\"]
)
SEGMENTS = st.tuples(st.sampled_from((*NAMES, f"P{CANARY}", CANARY)), st.lists(PIECES, max_size=30)).map(
    lambda one: "|".join((one[0], *one[1]))
)


@given(
    st.sampled_from(VERSIONS),
    st.lists(SEGMENTS, max_size=6),
    st.lists(PIECES, min_size=7, max_size=20),
    st.sampled_from(["ADT^A01", CANARY, f"ADT^{CANARY}", f"ADT^A01^{CANARY}", f"ACK^{CANARY}^{CANARY}"]),
    st.booleans(),
)
@settings(deadline=None)
def test_no_finding_shows_what_stands_in_the_message(
    version: str, segments: list[str], header: list[str], kind: str, strange: bool
) -> None:
    header[5], header[6] = "", kind
    header[9:10] = [f"{version}^{CANARY}" if strange else version]
    text = "\r".join(["MSH|^~\\&|" + "|".join(header), *segments])
    message = hl7v2.parse((text.translate(str.maketrans("|^~&", "#%@!")) if strange else text).encode())
    found = hl7v2.validate(message)
    assert CANARY not in repr(found)
    assert CANARY.casefold() not in repr(found).casefold()
    reply = hl7v2.acknowledge(message, "AE", found)
    assert len(reply.segments("ERR")) in {1, len(found), 0}


@given(st.sampled_from(VERSIONS), st.from_regex(r"[0-9]{4,15}([.][0-9]{1,3})?([+-][0-9]{4})?", fullmatch=True))
@settings(deadline=None)
def test_no_part_of_a_date_is_shown(version: str, birth: str) -> None:
    lines = adt(version)
    lines[2] = lines[2].replace("19800214", birth)
    for finding in findings(lines):
        assert finding.path.startswith("PID-7")
        assert not any(map(str.isdigit, re.sub(r"\([0-9]+\)|[0-9]+ characters", "", finding.found))), finding
