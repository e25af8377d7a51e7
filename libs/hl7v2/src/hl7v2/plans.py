"""The rules of a version as a profile has them, compiled segment by segment when they are first needed.

A plan says how a segment is checked; a resolution what MSH-9 stands for. All of it is kept with the profile, so that
the second message of a kind finds everything made. What is kept under names of the sender's is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from hl7v2.automaton import Automaton
from hl7v2.data_types import value_class
from hl7v2.inspection import Problem
from hl7v2.patterns import Check, check_of
from hl7v2.profile import FieldChange, Profile, StructureChange
from hl7v2.rules import FieldRule, LeafRule, TypeRules, length_rule
from hl7v2.standard import ALIKE, ANY, PRIMITIVES, VERSIONS, FieldRow, Item, Standard, Table, nearest, standard

HEADERS: Final = (b"MSH", b"BHS", b"FHS")
"""Segments whose field 1 is the field separator itself: their fields stand one place before their numbers."""
OBSERVATION: Final = b"OBX"
VALUE_TYPE: Final = 2
VALUE: Final = 5
_RESOLUTIONS_MAX: Final = 512
_PLANS_MAX: Final = 1_000


class Plan(NamedTuple):
    """How a segment is checked. `checks` stand at the places of the fields of a segment that is split, from its name.

    `required` are places; the first field of MSH in its text is MSH-2, so its places are one less than its numbers.
    `needed` takes what stands there.
    """

    checks: list[Check]
    required: tuple[int, ...]
    needed: Callable[[list[bytes]], tuple[bytes, ...]]
    last_required: int
    counted: bool
    value_check: Callable[[list[bytes]], object] | None
    fields: tuple[FieldRule | None, ...]


class Resolution(NamedTuple):
    """What MSH-9 stands for: its structure ("" unknown), the automaton of that, problems with MSH-9 itself."""

    structure: str
    automaton: Automaton | None
    problems: tuple[Problem, ...]


class Compiled:
    """The rules of one version as a profile has them. Everything is compiled when it is first needed, and kept."""

    def __init__(self, version: str, profile: Profile, *, served: bool) -> None:
        """`served` says whether the standard's tables are those of the version that the message names."""
        self.profile = profile
        self.standard: Standard = standard(version)
        self.served = served
        self.types = TypeRules(self.standard, _tables(self.standard, profile))
        self.plans = _Plans(self)
        self.values = _ValueChecks(self)
        self.tells_z = profile.severity_of("segment-z", "") != "off"
        self.is_silent = served and not self.tells_z
        self.kept: dict[tuple[FieldRule, bytes, str], tuple[tuple[str, ...], ...]] = {}
        """What was wrong with short values that were seen lately."""
        self._automata: dict[str, Automaton | None] = {}
        self._resolutions: dict[tuple[bytes, bytes], Resolution] = {}

    def automaton(self, structure: str) -> Automaton | None:
        """The automaton of a structure as the profile has it; None for an unknown one."""
        if structure not in self._automata:
            items = self.standard.structure(structure)
            change = self.profile.structure(structure)
            automaton = None if items is None else Automaton(_changed(items, change), change.anywhere)
            if items is None:
                return None  # names from messages are not kept
            self._automata[structure] = automaton
        return self._automata[structure]

    def resolution(self, message_type: bytes, mark: bytes) -> Resolution:
        """What a message's MSH-9 stands for."""
        key = (message_type, mark)
        found = self._resolutions.get(key)
        if found is None:
            found = _resolve(self, message_type.split(mark) if mark else [message_type])
            if len(self._resolutions) < _RESOLUTIONS_MAX:
                self._resolutions[key] = found
        return found

    def field_rule(self, path: str, section: str, row: FieldRow) -> FieldRule:
        """A field's row as the profile has it."""
        change = self.profile.fields.get(path, FieldChange())
        version = self.standard.version
        table = None if path == "MSH-9" else self.types.table(row.table)
        if change.values is not None:
            table = Table(row.table or "of the profile", "P", row.name, change.values)
        if table is not None and change.also:
            table = table._replace(values=table.values | change.also)
        length = row.length if change.length is None else change.length
        return FieldRule(
            path=path,
            reference=f"HL7 v{version} {f'§{section} ' if section else ''}{path}",
            leaf=LeafRule(row.type, False, length, table, row.name),
            required=bool(row.required) if change.required is None else change.required,
            repetitions=row.repetitions if change.repetitions is None else change.repetitions,
            status=row.status,
            length_rule="length" if change.length is not None else length_rule(version, row.type, row.length),
        )


class _Plans(dict[bytes, Plan]):
    """Segment name → plan, made when it is first looked up."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self._compiled = compiled

    def __missing__(self, name: bytes) -> Plan:
        text = name.decode("ascii", "replace")
        declared = self._compiled.profile.segments.get(text)
        found = self._compiled.standard.segment(text)
        if declared is not None:
            rows = _declared_rows(declared)
            section = ""
        elif found is not None:
            rows, section = found.fields, found.section
        else:
            if len(self) < _PLANS_MAX:  # Z segments come again and again, but names are the sender's
                self[name] = NO_PLAN
            return NO_PLAN
        rules = tuple(
            None if row is None else self._compiled.field_rule(f"{text}-{number}", section, row)
            for number, row in enumerate(rows, start=1)
        )
        plan = self[name] = self._plan(name, rules)
        return plan

    def _plan(self, name: bytes, rules: tuple[FieldRule | None, ...]) -> Plan:
        shift = 1 if name in HEADERS else 0
        checks: list[Check] = [name.__eq__]
        for place, rule in enumerate(rules[shift:], start=1):
            checks.append(nothing if rule is None else _first_use(self._compiled, checks, place, rule))
        if shift:
            checks[1] = len
        required = tuple(
            number - shift
            for number, rule in enumerate(rules, start=1)
            if rule is not None and rule.required and number > 2 * shift
        )
        ignored = self._compiled.profile.severity_of("set-id", f"{name.decode()}-1") == "off"
        counted = bool(rules) and rules[0] is not None and rules[0].leaf.type == "SI" and not ignored
        value_check = self._compiled.values.passes if name == OBSERVATION else None
        needed = itemgetter(*required, *required) if required else _none
        return Plan(checks, required, needed, max(required, default=0), counted, value_check, rules)


class _ValueChecks(dict[bytes, Check]):
    """OBX-2 → check of OBX-5, made when it is first looked up."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__()
        self._compiled = compiled

    def passes(self, fields: list[bytes]) -> object:
        """Whether the value of an OBX is of its type; fields as the segment is split."""
        value_type = fields[VALUE_TYPE] if len(fields) > VALUE_TYPE else b""
        value = fields[VALUE] if len(fields) > VALUE else b""
        if not value_type:
            return not value
        check = self[value_type]
        return check(value) if value else check is not nothing

    def __missing__(self, value_type: bytes) -> Check:
        rule = self.rule(value_type.decode("ascii", "replace"))
        if rule is None:
            return nothing
        in_prose = rule.leaf.type in {"TX", "FT", "ST"} and not rule.leaf.length
        check = self[value_type] = _is_prose if in_prose else check_of(self._compiled.types, rule)
        return check

    def rule(self, value_type: str) -> FieldRule | None:
        """The rule of a value of this type; None for no type of the version."""
        compiled = self._compiled
        if value_type not in compiled.standard.types and value_type not in PRIMITIVES:
            return None
        found = compiled.standard.segment("OBX")
        row = found.fields[VALUE - 1] if found is not None else None
        if found is None or row is None:
            return None
        return compiled.field_rule("OBX-5", found.section, row._replace(type=value_type, repetitions=ANY))


def nothing(value: bytes) -> bool:
    """The check of a place where nothing may stand."""
    return False


def _none(fields: list[bytes]) -> tuple[bytes, ...]:
    return ()


NO_PLAN: Final = Plan([len] * 1_000, (), _none, 0, False, None, ())


def _is_prose(value: bytes) -> bool:
    """Whether a text has no delimiter but that of repetitions; of any length at the speed of a search for a byte."""
    return b"^" not in value and b"&" not in value


def _first_use(compiled: Compiled, checks: list[Check], place: int, rule: FieldRule) -> Check:
    """A check that compiles the field's pattern, puts it in its own place and answers: most fields are never used."""

    def check(value: bytes) -> object:
        checks[place] = made = check_of(compiled.types, rule)
        return made(value)

    return check


def _declared_rows(fields: Mapping[int, FieldChange]) -> tuple[FieldRow | None, ...]:
    """The fields of a Z segment as rows; a number that the profile leaves out may hold anything."""
    rows: list[FieldRow | None] = [FieldRow("varies", 0, ANY, 0, "", "", "") for _ in range(max(fields, default=0))]
    for number, change in fields.items():
        rows[number - 1] = FieldRow(
            change.type or "ST", int(change.required or False), change.repetitions or 1, change.length or 0, "", "",
            change.name or "",
        )  # fmt: skip
    return tuple(rows)


def _tables(found: Standard, profile: Profile) -> dict[str, Table]:
    """The tables that a profile changes."""
    changed: dict[str, Table] = {}
    for number, change in profile.tables.items():
        table = found.table(number) or Table(number, "P", "", frozenset())
        if change.values is not None:
            table = table._replace(kind="P", values=change.values)
        changed[number] = table._replace(values=table.values | change.also)
    return changed


def _changed(items: Iterable[Item], change: StructureChange) -> tuple[Item, ...]:
    """The items of a structure as a profile has them."""
    found = []
    for item in items:
        minimum = 0 if item.name in change.optional else 1 if item.name in change.required else item.minimum
        maximum = ANY if item.name in change.repeating else item.maximum
        found.append(Item(item.name, minimum, maximum, _changed(item.items, change), item.is_choice))
    return tuple(found)


def compiled_for(profile: Profile, said: bytes, mark: bytes) -> Compiled:
    """The rules for a message whose MSH-12 is this."""
    found = profile.compiled.get(said)
    if found is None:
        version = (said.split(mark)[0] if mark else said).decode("ascii", "replace")
        wanted = profile.version or nearest(version)
        served = profile.version is not None or version in VERSIONS or version in ALIKE
        key = (wanted, served)
        found = profile.compiled.get(key)
        if found is None:
            found = profile.compiled[key] = Compiled(wanted, profile, served=served)
        if version in VERSIONS and said == version.encode():
            profile.compiled[said] = found
    assert isinstance(found, Compiled)
    return found


# ---- MSH-9


def _resolve(compiled: Compiled, parts: Sequence[bytes]) -> Resolution:
    kind, event, named = ([part.decode("ascii", "replace") for part in parts] + ["", "", ""])[:3]
    structure = _structure_of(compiled, kind, event)
    problems: list[Problem] = []
    reference = f"HL7 v{compiled.standard.version} MSH-9"
    if structure:
        own = f"{kind}_{event}"
        if named == own and named in compiled.standard.structures:
            structure = named
        elif named and named != structure:
            # Any event may stand in an ACK: what the sender writes there is not repeated.
            expected = f"{structure}, the structure of {kind if kind == 'ACK' else f'{kind}^{event}'}"
            problems.append(Problem("structure-name", "MSH-9.3", expected, value_class(named), reference))
    elif kind:
        problems.append(_unknown_event(compiled, kind, event, reference))
        structure = named if named in compiled.standard.structures else ""
    return Resolution(structure, compiled.automaton(structure), tuple(problems))


def _structure_of(compiled: Compiled, kind: str, event: str) -> str:
    if kind == "ACK":
        return "ACK"
    known = compiled.standard.events
    if event:
        key = f"{kind}^{event}"
        return compiled.profile.events.get(key) or known.get(key, "")
    # Before v2.3.1 an event that is the only one of its message type is often left out.
    alike = {structure for key, structure in known.items() if key.startswith(f"{kind}^")}
    return alike.pop() if len(alike) == 1 else ""


def _unknown_event(compiled: Compiled, kind: str, event: str, reference: str) -> Problem:
    version = compiled.standard.version
    if event.startswith("Z") or kind.startswith("Z"):
        return Problem("event-local", "MSH-9", f"a trigger event of HL7 v{version}", "a local one", reference)
    if f"{kind}^{event}" in compiled.standard.events_elsewhere:
        expected = f"a trigger event of HL7 v{version}"
        return Problem("event-elsewhere", "MSH-9.2", expected, "one of another version", reference)
    if any(key.startswith(f"{kind}^") for key in compiled.standard.events):
        expected = f"a trigger event of {kind} messages"
        return Problem("trigger-event", "MSH-9.2", expected, value_class(event), reference)
    return Problem("message-type", "MSH-9.1", f"a message type of HL7 v{version}", value_class(kind), reference)
