"""What a profile makes of messages beside what another does: which findings it adds, changes and leaves out.

Findings are compared by path and code. Counts name rules and places, never values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import hl7v2
from hl7_gateway.core.site_profile import STANDARD, SiteProfile

_RANKS: Final = {"info": 1, "warning": 2, "error": 3}
COUNTED_MAX: Final = 500
"""Rows of counts in one answer."""


class Told(NamedTuple):
    """A finding, and what the profile did to it: "tightened", "loosened", or "" where the standard says the same.

    `standard_severity` is what it is without the profile; None: the standard does not tell it.
    """

    finding: hl7v2.Finding
    effect: str
    standard_severity: str | None


def told_by(message: hl7v2.Message, profile: SiteProfile) -> tuple[list[Told], list[hl7v2.Finding]]:
    """The findings by a profile, and those of the standard that it does not tell."""
    findings = hl7v2.validate(message, profile.compiled)
    if profile.is_standard:
        return [Told(finding, "", finding.severity) for finding in findings], []
    standard = defaultdict[tuple[str, str], list[hl7v2.Finding]](list)
    for finding in hl7v2.validate(message, STANDARD.compiled):
        standard[finding.path, finding.code].append(finding)
    told = []
    for finding in findings:
        same = standard[finding.path, finding.code]
        alike = next((one for one in same if one.severity == finding.severity), same[0] if same else None)
        if alike is not None:
            same.remove(alike)
        told.append(_told(finding, alike))
    return told, [finding for left in standard.values() for finding in left]


def _told(finding: hl7v2.Finding, standard: hl7v2.Finding | None) -> Told:
    if standard is None:
        return Told(finding, "tightened", None)
    more = _RANKS[finding.severity] - _RANKS[standard.severity]
    return Told(finding, "tightened" if more > 0 else "loosened" if more < 0 else "", standard.severity)


def told_json(told: Told, profile: SiteProfile) -> dict[str, Any]:
    """A finding as it is shown and kept; `profile` says who loosened or tightened it, where somebody did."""
    shown = asdict(told.finding)
    if told.effect:
        effect = {"effect": told.effect, "standard_severity": told.standard_severity}
        shown["profile"] = {**profile.ref.as_json(), **effect}
    return shown


class _Key(NamedTuple):
    """What findings are counted by: the path without numbers of repetitions."""

    path: str
    code: str
    severity: str


@dataclass(frozen=True, slots=True)
class Counted:
    """How often findings came up over messages: occurrences, and in how many messages."""

    messages: int
    unreadable: int
    valid: int
    times: Counter[_Key]
    in_messages: Counter[_Key]
    valid_places: frozenset[int]


def counted(messages: Sequence[hl7v2.Message | None], profile: SiteProfile) -> Counted:
    """Findings of messages by a profile; None is one that could not be read."""
    times, in_messages = Counter[_Key](), Counter[_Key]()
    valid = set()
    for place, message in enumerate(messages):
        if message is None:
            continue
        keys = [_key(finding) for finding in hl7v2.validate(message, profile.compiled)]
        times.update(keys)
        in_messages.update(set(keys))
        if all(key.severity != "error" for key in keys):
            valid.add(place)
    unreadable = sum(message is None for message in messages)
    return Counted(len(messages), unreadable, len(valid), times, in_messages, frozenset(valid))


def counts_json(found: Counted) -> dict[str, Any]:
    """Counts as the API shows them, the most frequent first."""
    rows = sorted(found.times.items(), key=lambda row: (-row[1], row[0]))
    return {
        "valid": found.valid,
        "findings": [
            {**key._asdict(), "times": times, "messages": found.in_messages[key]} for key, times in rows[:COUNTED_MAX]
        ],
        "findings_left_off": max(0, len(rows) - COUNTED_MAX),
    }


def difference_json(in_force: Counted, tried: Counted) -> dict[str, Any]:
    """What would be otherwise with the profile that was tried."""
    keys = sorted(in_force.times.keys() | tried.times.keys())
    changed = [key for key in keys if in_force.times[key] != tried.times[key]]
    return {
        "newly_valid": len(tried.valid_places - in_force.valid_places),
        "newly_invalid": len(in_force.valid_places - tried.valid_places),
        "findings": [
            {**key._asdict(), "times_in_force": in_force.times[key], "times": tried.times[key]}
            for key in changed[:COUNTED_MAX]
        ],
    }


def readable(bodies: Iterable[bytes], encoding: str | None) -> list[hl7v2.Message | None]:
    """The messages of bodies; None for what is none."""
    found: list[hl7v2.Message | None] = []
    for body in bodies:
        try:
            found.append(hl7v2.parse_assuming(body, encoding))
        except hl7v2.ParseError:
            found.append(None)
    return found


def without_repetitions(path: str) -> str:
    """`OBX[3]-5[2].1` as `OBX-5.1`."""
    kept, inside = [], False
    for character in path:
        inside = inside or character == "["
        if not inside:
            kept.append(character)
        inside = inside and character != "]"
    return "".join(kept)


def _key(finding: hl7v2.Finding) -> _Key:
    return _Key(without_repetitions(finding.path), finding.code, finding.severity)
