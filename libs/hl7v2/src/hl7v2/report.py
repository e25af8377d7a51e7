"""The slow half of the validator: why a message, a segment or a field is not right, as findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from hl7v2 import charset
from hl7v2.acknowledgment import Finding
from hl7v2.automaton import Fault
from hl7v2.data_types import value_class
from hl7v2.escape import DEFAULT as DEFAULT_MARKS
from hl7v2.inspection import Inspection, Problem
from hl7v2.message import Message
from hl7v2.plans import HEADERS, NO_PLAN, OBSERVATION, VALUE, VALUE_TYPE, Compiled, Resolution, nothing
from hl7v2.rules import RULES, FieldRule
from hl7v2.standard import VERSIONS

FINDINGS_MAX: Final = 500
"""Of one message; what more there is, is said to be left out."""
_KEPT_VALUES_MAX: Final = 4_096
_KEPT_BYTES_MAX: Final = 128


class Report:
    """Collects the findings of one message."""

    def __init__(self, message: Message, compiled: Compiled, texts: list[bytes], names: list[bytes]) -> None:
        self._compiled = compiled
        self._texts = texts
        self._names = names
        self._codec = message.inner_codec
        self._marks = message.delimiters
        self._inspection = Inspection(compiled.types, message.delimiters)
        self._is_default = message.delimiters.marks == DEFAULT_MARKS.marks
        self._found: list[tuple[int, Finding]] = []
        self._numbers: list[int] = []
        """Of each segment, which one of its name it is; counted when the first path is wanted."""
        self._out_of_place: set[int] = set()
        self._missing: set[bytes] = set()

    @property
    def is_full(self) -> bool:
        """Whether nothing more is told."""
        return len(self._found) > FINDINGS_MAX

    def findings(self) -> list[Finding]:
        """The findings in the order of the message."""
        found = [finding for _, finding in sorted(self._found, key=lambda pair: pair[0])]
        if len(found) > FINDINGS_MAX:
            more = Finding("", RULES["too-many"].code, "info", f"at most {FINDINGS_MAX} findings", "more", "")
            found = [*found[:FINDINGS_MAX], more]
        return found

    def add(self, index: int, problem: Problem) -> None:
        """A problem of the segment at this index, unless the profile does not want to be told."""
        if self.is_full:
            return
        severity = self._compiled.profile.severity_of(problem.rule, problem.path)
        if severity != "off":
            code = RULES[problem.rule].code
            self._found.append((index, Finding(problem.path, code, severity, *problem[2:])))

    def whole(self, resolution: Resolution, said: bytes) -> None:
        """Problems of the message as a whole."""
        for problem in resolution.problems:
            self.add(0, problem)
        version = self._compiled.standard.version
        if not self._compiled.served and said:
            expected = f"a version from {VERSIONS[0]} to {VERSIONS[-1]} (checked as {version})"
            self.add(0, Problem("version", "MSH-12", expected, value_class(self._decoded(said)), "HL7 table 0104"))
        if self._compiled.tells_z:
            for index, name in enumerate(self._names):
                if name.startswith(b"Z") and name.decode("ascii", "replace") not in self._compiled.profile.segments:
                    expected = "a segment of the standard or of the profile"
                    self.add(index, Problem("segment-z", self._path(index), expected, "a Z segment", ""))

    def structure(self, structure: str, faults: Iterable[Fault]) -> None:
        """What the automaton says of the segments' order."""
        reference = f"HL7 v{self._compiled.standard.version} structure {structure}"
        for fault in faults:
            if fault.kind == "missing":
                self._missing.add(fault.name)
            else:
                self._out_of_place.add(fault.place)
            self.add(fault.place, self._of_fault(fault, structure, reference))

    def _of_fault(self, fault: Fault, structure: str, reference: str) -> Problem:
        index, names = fault.place, self._names
        if fault.kind == "missing":
            name = fault.name.decode()
            before = names[:index].count(fault.name)
            segment = self._compiled.standard.segment(name)
            title = f"{name} {segment.name}" if segment is not None else name
            found = f"none before {self._name(index)}" if index < len(names) else "none up to the end"
            path = name if not before else f"{name}[{before + 1}]"
            return Problem("segment-missing", path, title, found, reference)
        path = self._path(index)
        found = f"{self._name(index)} after {self._name(index - 1)}" if index else self._name(index)
        if fault.kind == "unchecked":
            expected = "segments in the order of the structure; what follows is not looked at"
            return Problem("unchecked", path, expected, found, reference)
        if fault.kind == "repeated":
            return Problem("segment-repeated", path, f"{self._name(index)} once here", found, reference)
        if not path:
            return Problem("segment-name", path, "a segment name of three characters", found, "HL7 §2.5.2")
        known = self._compiled.standard.segment(self._name(index)) is not None
        if fault.kind == "unknown" and not known:
            expected = f"a segment of HL7 v{self._compiled.standard.version}"
            return Problem("segment-unknown", path, expected, found, reference)
        expected = f"no {self._name(index)}" if fault.kind == "unknown" else f"{self._name(index)} in its place"
        return Problem("segment-misplaced", path, f"{expected} in {structure}", found, reference)

    def segment(self, index: int, start: int, kept: list[bytes] | None) -> None:
        """The fields of a segment (`kept`, if they are); those before the place `start` are known to be right."""
        name = self._names[index]
        fields = self._texts[index].split(self._marks.marks[0]) if kept is None else kept
        plan = self._compiled.plans[name]
        if plan is NO_PLAN:
            return
        if fields[0] != name:
            expected = "a segment name of three characters"
            self.add(index, Problem("segment-name", self._path(index), expected, "a longer name", "HL7 §2.5.2"))
            return
        shift = 1 if name in HEADERS else 0
        checks = plan.checks if self._is_default else [nothing] * len(plan.checks)
        for place in range(max(start, shift + 1), min(len(fields), len(checks))):
            raw = fields[place]
            if raw and not checks[place](raw):
                rule = plan.fields[place + shift - 1]
                if rule is not None:  # a number that the standard leaves out may hold anything
                    self._field(index, rule, place + shift, raw)
        extra = next((place for place in range(len(checks), len(fields)) if fields[place]), None)
        if extra is not None:
            self._extra(index, extra + shift, len(plan.fields), fields[extra])
        for place in plan.required:
            rule = plan.fields[place + shift - 1]
            if rule is not None and (place >= len(fields) or not fields[place]):
                path = f"{self._path(index)}-{place + shift}"
                self.add(index, Problem("field-required", path, rule.title, "empty", rule.reference))
        if name == OBSERVATION and not (self._is_default and self._compiled.values.passes(fields)):
            self._observation(index, fields)

    def _field(self, index: int, rule: FieldRule, number: int, raw: bytes) -> None:
        """A field that is not what its check expects."""
        path = f"{self._path(index)}-{number}"
        for below, code, severity, expected, found, reference in self._problems(rule, raw):
            if not self.is_full:
                self._found.append((index, Finding(path + below, code, severity, expected, found, reference)))

    def _problems(self, rule: FieldRule, raw: bytes) -> tuple[tuple[str, ...], ...]:
        """What is wrong with a value, with paths below the field's. Local codes come again and again: they are kept."""
        kept = self._compiled.kept
        key = (rule, raw, self._codec)
        found = kept.get(key) if self._is_default else None
        if found is None:
            severity_of = self._compiled.profile.severity_of
            found = tuple(
                (problem.path, RULES[problem.rule].code, severity, *problem[2:])
                for problem in self._inspection.field(rule, self._decoded(raw))
                if (severity := severity_of(problem.rule, rule.path)) != "off"
            )
            if self._is_default and len(raw) <= _KEPT_BYTES_MAX:
                if len(kept) >= _KEPT_VALUES_MAX:
                    kept.clear()
                kept[key] = found
        return found

    def _extra(self, index: int, number: int, fields: int, raw: bytes) -> None:
        name = self._name(index)
        reference = f"HL7 v{self._compiled.standard.version} {name}"
        path = f"{self._path(index)}-{number}"
        self.add(index, Problem("field-extra", path, f"at most {fields} fields of {name}", self._class(raw), reference))

    def _observation(self, index: int, fields: list[bytes]) -> None:
        """OBX-5 is of the type that OBX-2 says (v2.5.1 §7.4.2.2, §7.4.2.5)."""
        value_type, value = ((*fields, *[b""] * VALUE)[place] for place in (VALUE_TYPE, VALUE))
        path = self._path(index)
        rule = self._compiled.values.rule(self._decoded(value_type))
        reference = f"HL7 v{self._compiled.standard.version} OBX-2"
        if value_type and rule is None:
            expected = f"a data type of HL7 v{self._compiled.standard.version}"
            self.add(index, Problem("value-type", f"{path}-2", expected, self._class(value_type), reference))
        elif value and rule is None:
            expected = "OBX-2 Value Type of a value that is there"
            self.add(index, Problem("field-required", f"{path}-2", expected, "empty", reference))
        elif value and rule is not None:
            self._field(index, rule, VALUE, value)

    def set_ids(self, anchors: Mapping[bytes, set[bytes]]) -> None:
        """Set ids count from 1 within their group, or on through the message; a finding wherever the count breaks.

        After a break both the number that was found and the one that was expected may go on. Segments that the
        structure has complained of are not counted: that would be the same mistake told twice.
        """
        before: dict[bytes, tuple[int, int, int]] = {}
        for index, name in enumerate(self._names):
            if self.is_full:
                return
            number = self._set_id(index, name)
            if number is None:
                continue
            last, assumed, place = before.get(name, (0, 0, -1))
            between = self._names[place + 1 : index]
            starts = place < 0 or not anchors or not anchors.get(name, set()).isdisjoint(between)
            if number - 1 in {last, assumed} or (starts and number == 1):
                assumed = number
            else:
                assumed = last + 1
                expected = f"set id {assumed}" + (" or 1" if starts and last else "")
                reference = f"HL7 v{self._compiled.standard.version} data type SI"
                found = "a number out of sequence"
                self.add(index, Problem("set-id", f"{self._path(index)}-1", expected, found, reference))
            before[name] = (number, assumed, index)

    def _set_id(self, index: int, name: bytes) -> int | None:
        """The set id of a segment that is to be counted; None for any other."""
        if index in self._out_of_place or name in self._missing or not self._compiled.plans[name].counted:
            return None
        fields = self._texts[index].split(self._marks.marks[0], 2)
        given = fields[1] if len(fields) > 1 else b""
        return int(given) if given.isdigit() and len(given) <= 4 else None

    def _path(self, index: int) -> str:
        """The path of a segment: its name, with its number from the second of the name on; "" for no name."""
        if not self._numbers:
            counts: dict[bytes, int] = {}
            for name in self._names:
                counts[name] = number = counts.get(name, 0) + 1
                self._numbers.append(number)
        path, number = _segment_name(self._names[index]), self._numbers[index]
        return f"{path}[{number}]" if path and number > 1 else path

    def _name(self, index: int) -> str:
        return _segment_name(self._names[index]) or "a line without a segment name"

    def _class(self, raw: bytes) -> str:
        return value_class(self._decoded(raw))

    def _decoded(self, raw: bytes) -> str:
        return charset.decode(raw, self._codec)


@lru_cache(maxsize=1024)
def _segment_name(name: bytes) -> str:
    """The name of a segment; "" for what is none."""
    text = name.decode("ascii", "replace")
    is_name = len(text) == 3 and text.isascii() and text.isalnum() and text.isupper() and text[0].isalpha()
    return text if is_name else ""
