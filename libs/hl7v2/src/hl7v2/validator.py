"""Validation: a message against the standard's tables and a sender's profile → findings.

Two halves. The fast one walks the structure's automaton and matches each field with its pattern (`plans`, `patterns`),
compiled once per version and field; a clean message costs that and nothing else. What does not match is looked at by
the slow half (`report`, `inspection`, `Automaton.repair`), which names the problem. Findings say where (a path into the
message), what was expected and what class of value was found; never the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Final

from hl7v2.acknowledgment import Finding
from hl7v2.escape import DEFAULT as DEFAULT_MARKS
from hl7v2.message import Message
from hl7v2.plans import Plan, compiled_for
from hl7v2.profile import DEFAULT, Profile
from hl7v2.report import Report

_NUMBER_MAX: Final = 9_999
_NUMBERS: Final = tuple(str(number).encode() for number in range(_NUMBER_MAX + 1))
_SPLIT_KEPT_MAX: Final = 1_000
"""Suspects whose fields are kept for the slow half; it splits the others again: millions would take all memory."""
_Suspect = tuple[int, int, list[bytes] | None]
"""A segment that may be wrong: its index, the place of its first field that may be, and its fields."""
_NO_ANCHORS: Final[Mapping[bytes, set[bytes]]] = {}


def validate(message: Message, profile: Profile | None = None) -> list[Finding]:
    """What is wrong with a message, in its order; empty when nothing is. Any bytes that parse can be validated.

    Without a profile the rules are the standard's for the version that MSH-12 names.
    """
    chosen = profile or DEFAULT
    marks = message.delimiters.marks
    texts = message.raw_segments()
    header = texts[0].split(marks[0])
    compiled = compiled_for(chosen, header[11] if len(header) > 11 else b"", marks[1])
    names = [text[:3] for text in texts]
    resolution = compiled.resolution(header[8] if len(header) > 8 else b"", marks[1])
    automaton = resolution.automaton
    fits = automaton is None or reduce(getitem, names, automaton.start).accepting
    anchors = automaton.anchors if automaton is not None else _NO_ANCHORS
    if marks == DEFAULT_MARKS.marks:
        suspects, uncounted = _suspects(compiled.plans, names, texts, anchors)
    else:
        suspects, uncounted = [(index, 0, None) for index in range(len(texts))], True
    if fits and not suspects and not uncounted and not resolution.problems and compiled.is_silent:
        return []
    report = Report(message, compiled, texts, names)
    report.whole(resolution, header[11] if len(header) > 11 else b"")
    if automaton is not None and not fits:
        report.structure(resolution.structure, automaton.repair(names))
    for index, place, fields in suspects:
        if report.is_full:
            break
        report.segment(index, place, fields)
    if uncounted:
        report.set_ids(anchors)
    return report.findings()


def _suspects(
    plans: Mapping[bytes, Plan], names: list[bytes], texts: list[bytes], anchors: Mapping[bytes, set[bytes]]
) -> tuple[list[_Suspect], bool]:
    """The segments that may be wrong; whether set ids have to be looked at."""
    suspects: list[_Suspect] = []
    uncounted = False
    counts: dict[bytes, int] = {}
    places: dict[bytes, int] = {}
    for index, text in enumerate(texts):
        name = names[index]
        checks, _, needed, last_required, counted, value_check, _ = plans[name]
        fields = text.split(b"|")
        size = len(fields)
        for value, check in zip(fields, checks, strict=False):
            if value and not check(value):
                kept = fields if len(suspects) < _SPLIT_KEPT_MAX else None
                suspects.append((index, checks.index(check) if check in checks else 0, kept))
                break
        else:
            if (
                not last_required < size <= len(checks)
                or b"" in needed(fields)
                or (value_check and not value_check(fields))
            ):
                suspects.append((index, size, fields if len(suspects) < _SPLIT_KEPT_MAX else None))
        if counted and size > 1 and fields[1]:
            number = counts.get(name, 0) + 1
            if number > _NUMBER_MAX or fields[1] != _NUMBERS[number]:
                number = 1
                restarts = fields[1] == b"1" and name in anchors and name in places
                uncounted = uncounted or not restarts or anchors[name].isdisjoint(names[places[name] + 1 : index])
            counts[name] = number
            places[name] = index
    return suspects, uncounted
