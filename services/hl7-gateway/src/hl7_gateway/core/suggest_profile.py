"""A profile suggested from a sender's traffic: it loosens exactly what the messages break, for a person to review.

Theory of operation. For each kind of error that the messages have (place without repetitions, code, structure) the
narrowest change is tried first and the wider ones after it, until the errors of that kind are gone from the messages
that have them; a change that adds an error somewhere is not taken. So a suggestion never needs to know which rule made
a finding, and what it says was seen to help. Nothing a message holds goes into it: a code that a table lacks is not
repeated, because a name may stand where a code belongs; the table's rule is put aside for that field instead.
"""

from __future__ import annotations

import copy
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import hl7v2
from hl7_gateway.core.profile_comparison import without_repetitions
from hl7v2.rules import RULES

KINDS_MAX: Final = 100
"""Kinds of errors that are looked at; a feed with more is no HL7 that loosening helps."""
SAMPLES_MAX: Final = 20
"""Messages with a kind of error that a change is tried on; the result is checked with all of them."""
_CHARACTERS: Final = re.compile(r"(\d+) characters")
_REPETITIONS: Final = re.compile(r"(\d+) repetitions")
_NOT_LOOSENED: Final = frozenset({"200", "201", "203"})
"""Types, events and versions that nobody knows: whether such messages are wanted is for a person to say."""
_FIELD: Final = re.compile(r"[A-Z][A-Z0-9]{2}-[1-9][0-9]{0,2}")


class Kind(NamedTuple):
    """A kind of error: where, the HL7 code, and in which structure."""

    path: str
    code: str
    structure: str


@dataclass(frozen=True, slots=True)
class Change:
    """One loosening: the key in the profile, its value, and the errors it answers."""

    place: tuple[str, ...]
    value: Any
    kind: Kind
    messages: int

    def as_json(self) -> dict[str, Any]:
        """For the person who reviews it."""
        because = {"path": self.kind.path, "code": self.kind.code, "messages": self.messages}
        return {"place": ".".join(self.place), "value": self.value, "because": because}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The document, what was changed and why, what no change helps, and how many messages are valid before and after.

    `left` are kinds of errors with the number of messages that have them.
    """

    document: Mapping[str, Any]
    changes: tuple[Change, ...]
    left: tuple[tuple[Kind, int], ...]
    valid_before: int
    valid_after: int


@dataclass(slots=True)
class _Seen:
    """What is known of a kind: the messages that have it, the largest numbers that were found."""

    places: list[int] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)


def suggested(messages: Sequence[hl7v2.Message], document: Mapping[str, Any]) -> Suggestion:
    """A profile made of `document`, which is in force, that takes the messages. Pure; takes a second per 1,000."""
    profile = hl7v2.compile_profile(document)
    errors = [_errors(message, profile) for message in messages]
    seen = _kinds(errors)
    now = copy.deepcopy(dict(document))
    changes = []
    for kind, what in list(seen.items())[:KINDS_MAX]:
        samples = [messages[place] for place in what.places[:SAMPLES_MAX]]
        taken = _narrowest(now, kind, what, samples)
        if taken is not None:
            place, value = taken
            _put(now, place, value)
            changes.append(Change(place, _at(now, place), kind, len(what.places)))
    compiled = hl7v2.compile_profile(now)
    after = [_errors(message, compiled) for message in messages]
    left = _kinds(after)
    return Suggestion(
        now,
        tuple(changes),
        tuple((kind, len(what.places)) for kind, what in left.items()),
        sum(not one for one in errors),
        sum(not one for one in after),
    )


def _errors(message: hl7v2.Message, profile: hl7v2.Profile) -> list[hl7v2.Finding]:
    return [finding for finding in hl7v2.validate(message, profile) if finding.severity == "error"]


def _structure_of(finding: hl7v2.Finding) -> str:
    """The structure that a finding about segments names in its reference."""
    return finding.reference.rpartition(" structure ")[2] if " structure " in finding.reference else ""


def _kinds(errors: Sequence[Sequence[hl7v2.Finding]]) -> dict[Kind, _Seen]:
    seen = defaultdict[Kind, _Seen](_Seen)
    for place, found in enumerate(errors):
        for finding in found:
            path = without_repetitions(finding.path)
            one = seen[Kind(path, finding.code, _structure_of(finding))]
            if not one.places or one.places[-1] != place:
                one.places.append(place)
            for name, pattern in (("characters", _CHARACTERS), ("repetitions", _REPETITIONS)):
                number = pattern.match(finding.found)
                if number is not None:
                    one.numbers[name] = max(one.numbers[name], int(number[1]))
    return dict(sorted(seen.items(), key=lambda item: (-len(item[1].places), item[0])))


def _narrowest(
    document: Mapping[str, Any], kind: Kind, seen: _Seen, samples: Sequence[hl7v2.Message]
) -> tuple[tuple[str, ...], Any] | None:
    """The first change that takes the kind away from all samples and adds nothing; None when none does."""
    before = hl7v2.compile_profile(document)
    known = [Counter(_keys(message, before)) for message in samples]
    for place, value in _candidates(kind, seen):
        tried = copy.deepcopy(dict(document))
        _put(tried, place, value)
        try:
            profile = hl7v2.compile_profile(tried)
        except hl7v2.ProfileError:
            continue
        after = [Counter(_keys(message, profile)) for message in samples]
        gone = all((kind.path, kind.code) not in one for one in after)
        if gone and all(not new - old for new, old in zip(after, known, strict=True)):
            return place, value
    return None


def _keys(message: hl7v2.Message, profile: hl7v2.Profile) -> Iterator[tuple[str, str]]:
    for finding in _errors(message, profile):
        yield without_repetitions(finding.path), finding.code


def _candidates(kind: Kind, seen: _Seen) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Changes that may help, the narrowest first. A list is added to what stands there."""
    if kind.code in _NOT_LOOSENED:
        return
    if kind.structure and len(kind.path) == 3:
        for key in ("optional", "repeating", "anywhere"):
            yield ("structures", kind.structure, key), [kind.path]
    path = _FIELD.match(kind.path)
    if path is None:
        return
    if kind.code == "101" and path[0] == kind.path:
        yield ("fields", path[0], "required"), False
    if seen.numbers["repetitions"]:
        yield ("fields", path[0], "repetitions"), seen.numbers["repetitions"]
    if seen.numbers["characters"]:
        yield ("fields", path[0], "length"), seen.numbers["characters"]
    for rule, row in RULES.items():
        if row.code == kind.code and row.severity == "error":
            yield ("fields", path[0], "ignore"), [rule]


def _put(document: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    *above, last = place
    inner: dict[str, Any] = document
    for key in above:
        inner[key] = dict(inner.get(key) or {})
        inner = inner[key]
    if isinstance(value, list):
        before = inner.get(last)
        value = list(dict.fromkeys([*(before if isinstance(before, list) else []), *value]))
    inner[last] = value


def _at(document: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = document
    for key in place:
        found = found[key]
    return found
