"""Site profiles: what one sender does differently, as data.

`compile_profile(mapping)` takes what a YAML or JSON parser gives; nothing is read here. All keys may be left out:

    name: Epic ADT
    version: "2.5.1"                    # taken instead of MSH-12
    severity: {length: warning, table-user: off, deprecated: off}         # by rule (hl7v2.rules.RULES)
    fields:
      PID-19: {required: true, length: 9, repetitions: 1}
      OBX-11: {values: [F, C, P]}       # these and no others
      PV1-10: {also: [GYN, ONK]}        # these besides the table's
      PID-2:  {ignore: true}            # or a list of rules: [length, table-user]
    tables:
      "0001": {also: [D]}               # wherever the table is used; or values: [...]
    structures:
      ADT_A01: {optional: [PV1], required: [NK1], repeating: [PD1], anywhere: [NTE]}
      "*":     {anywhere: [NTE]}        # all structures
    events: {"ADT^Z01": ADT_A01}        # trigger events of the sender's own
    segments:
      ZPD:                              # a Z segment: its fields by number; other Z segments are then told
        1: {type: SI, name: Set ID, required: true}
        2: {type: CX, repetitions: any, length: 250}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from hl7v2.rules import RULES, SEVERITIES
from hl7v2.standard import ANY, VERSIONS

_FIELD: Final = re.compile(r"[A-Z][A-Z0-9]{2}-[1-9][0-9]{0,2}")
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_STRUCTURE: Final = re.compile(r"[A-Z][A-Z0-9]{2}(_[A-Z0-9]{3})?|\*")
_EVENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}\^[A-Z0-9]{3}")
_TABLE: Final = re.compile(r"[0-9]{4}")
_T = TypeVar("_T")


class ProfileError(ValueError):
    """A profile that says something that can not be meant; the text is the place, a colon, and what is expected."""

    @property
    def place(self) -> str:
        """Where it stands: keys with points between them."""
        return str(self).partition(": ")[0]

    @property
    def detail(self) -> str:
        """What is wrong there."""
        return str(self).partition(": ")[2]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What a profile says of a field; None leaves it as it is."""

    required: bool | None = None
    length: int | None = None
    repetitions: int | None = None
    values: frozenset[str] | None = None
    also: frozenset[str] = frozenset()
    ignored: bool = False
    ignored_rules: frozenset[str] = frozenset()
    type: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TableChange:
    """The values of a table, or those that are added to it."""

    values: frozenset[str] | None
    also: frozenset[str]


@dataclass(frozen=True, slots=True)
class StructureChange:
    """Segments of a structure (whichever group they are in) whose cardinality is another, or that may be anywhere."""

    optional: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    repeating: frozenset[str] = frozenset()
    anywhere: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A compiled profile. It also keeps what the validator has made of it, per version."""

    name: str = ""
    version: str | None = None
    severity: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, FieldChange] = field(default_factory=dict)
    tables: Mapping[str, TableChange] = field(default_factory=dict)
    structures: Mapping[str, StructureChange] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    segments: Mapping[str, Mapping[int, FieldChange]] = field(default_factory=dict)
    compiled: dict[object, object] = field(default_factory=dict, repr=False)

    def severity_of(self, rule: str, path: str) -> str:
        """error, warning, info or off."""
        change = self.fields.get(path.partition("[")[0].partition(".")[0])
        if change is not None and (change.ignored or rule in change.ignored_rules):
            return "off"
        if rule == "segment-z" and self.segments and rule not in self.severity:
            return "info"
        return self.severity.get(rule) or RULES[rule].severity

    def structure(self, name: str) -> StructureChange:
        """What is changed of a structure, with what is changed of all."""
        own, every = (self.structures.get(key, StructureChange()) for key in (name, "*"))
        return StructureChange(
            own.optional | every.optional,
            own.required | every.required,
            own.repeating | every.repeating,
            own.anywhere | every.anywhere,
        )


DEFAULT: Final = Profile()
"""The standard as it is."""


def compile_profile(given: Mapping[str, Any]) -> Profile:
    """The profile of a mapping as the module's text shows it. Raises ProfileError naming what can not be meant."""
    known = ("name", "version", "severity", "fields", "tables", "structures", "events", "segments")
    _only(given, known, "the profile")
    version = given.get("version")
    if version is not None and version not in VERSIONS:
        raise ProfileError(f"version: {_shown(version)} is none of {', '.join(VERSIONS)} (write it in quotes)")
    return Profile(
        name=str(given.get("name", "")),
        version=version,
        severity=_severities(_mapping(given, "severity")),
        fields={
            _named(key, _FIELD, "fields", "PID-3"): _field_change(value, f"fields.{key}", declaring=False)
            for key, value in _mapping(given, "fields").items()
        },
        tables={
            _named(key, _TABLE, "tables", '"0001"'): _table_change(value, f"tables.{key}")
            for key, value in _mapping(given, "tables").items()
        },
        structures={
            _named(key, _STRUCTURE, "structures", "ADT_A01"): _structure_change(value, f"structures.{key}")
            for key, value in _mapping(given, "structures").items()
        },
        events={
            _named(key, _EVENT, "events", "ADT^Z01"): _named(value, _STRUCTURE, f"events.{key}", "ADT_A01")
            for key, value in _mapping(given, "events").items()
        },
        segments={
            _named(key, _SEGMENT, "segments", "ZPD"): _segment(key, value)
            for key, value in _mapping(given, "segments").items()
        },
    )


def _severities(given: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for rule, severity in given.items():
        if rule not in RULES:
            raise ProfileError(f"severity: there is no rule {_shown(rule)} (there are: {', '.join(RULES)})")
        if severity is False:  # YAML reads `off` as false
            severity = "off"  # noqa: PLW2901
        if severity not in SEVERITIES:
            raise ProfileError(f"severity.{rule}: {_shown(severity)} is none of {', '.join(SEVERITIES)}")
        found[rule] = severity
    return found


def _field_change(given: Any, place: str, *, declaring: bool) -> FieldChange:
    keys = ("required", "length", "repetitions", "values", "also", "ignore", *(("type", "name") if declaring else ()))
    _only(given, keys, place)
    ignore = given.get("ignore", False)
    rules = frozenset() if isinstance(ignore, bool) else _texts(given, "ignore", place)
    if unknown := sorted(rules - RULES.keys()):
        raise ProfileError(f"{place}.ignore: there is no rule {unknown[0]!r} (there are: {', '.join(RULES)})")
    repetitions = given.get("repetitions")
    return FieldChange(
        required=_typed(given, "required", bool, place),
        length=_count(given, "length", place, minimum=0),
        repetitions=ANY if repetitions == "any" else _count(given, "repetitions", place, minimum=1),
        values=_texts(given, "values", place) if "values" in given else None,
        also=_texts(given, "also", place),
        ignored=ignore is True,
        ignored_rules=rules,
        type=_typed(given, "type", str, place),
        name=_typed(given, "name", str, place),
    )


def _table_change(given: Any, place: str) -> TableChange:
    _only(given, ("values", "also"), place)
    values = _texts(given, "values", place) if "values" in given else None
    return TableChange(values, _texts(given, "also", place))


def _structure_change(given: Any, place: str) -> StructureChange:
    keys = ("optional", "required", "repeating", "anywhere")
    _only(given, keys, place)
    found = [_texts(given, key, place) for key in keys]
    for name in frozenset().union(*found):
        _named(name, _SEGMENT, place, "PV1")
    return StructureChange(*found)


def _segment(name: str, given: Any) -> dict[int, FieldChange]:
    place = f"segments.{name}"
    if not str(name).startswith("Z"):
        raise ProfileError(f"{place}: only Z segments are declared; what is different of others stands under fields")
    if not isinstance(given, Mapping):
        raise ProfileError(f"{place}: expected its fields by number, found {_shown(given)}")
    found = {}
    for number, change in given.items():
        if not str(number).isdigit() or not 1 <= int(number) <= 500:
            raise ProfileError(f"{place}: {_shown(number)} is no field number from 1 to 500")
        found[int(number)] = _field_change(change, f"{place}.{number}", declaring=True)
    return found


def _mapping(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = given.get(key) or {}
    if not isinstance(found, Mapping):
        raise ProfileError(f"{key}: expected a mapping, found {_shown(found)}")
    return found


def _only(given: Any, known: Sequence[str], place: str) -> None:
    if not isinstance(given, Mapping):
        raise ProfileError(f"{place}: expected a mapping, found {_shown(given)}")
    for key in given:
        if key not in known:
            raise ProfileError(f"{place}: there is no {_shown(key)} (there are: {', '.join(known)})")


def _named(given: Any, pattern: re.Pattern[str], place: str, example: str) -> str:
    if not isinstance(given, str) or pattern.fullmatch(given) is None:
        raise ProfileError(f"{place}: {_shown(given)} is no name such as {example}")
    return given


def _texts(given: Mapping[str, Any], key: str, place: str) -> frozenset[str]:
    found = given.get(key, ())
    if isinstance(found, str) or not isinstance(found, Sequence) or not all(isinstance(one, str) for one in found):
        raise ProfileError(f"{place}.{key}: expected a list of texts (numbers in quotes), found {_shown(found)}")
    return frozenset(found)


def _typed(given: Mapping[str, Any], key: str, kind: type[_T], place: str) -> _T | None:
    found = given.get(key)
    if found is not None and not isinstance(found, kind):
        raise ProfileError(f"{place}.{key}: expected {kind.__name__}, found {_shown(found)}")
    return found


def _count(given: Mapping[str, Any], key: str, place: str, *, minimum: int) -> int | None:
    found = _typed(given, key, int, place)
    if found is not None and (isinstance(found, bool) or found < minimum):
        raise ProfileError(f"{place}.{key}: expected a number from {minimum} on, found {_shown(found)}")
    return found


def _shown(value: object) -> str:
    return repr(value)[:60]
