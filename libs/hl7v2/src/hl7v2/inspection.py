"""Why a field is wrong: the slow half of the validator, for the fields that did not match their pattern.

Works on decoded text, with whatever delimiters the message declares; escape sequences are taken for what they mean. A
value has at most one problem, the worst: a date that is none is not also too long.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from hl7v2.data_types import (
    CODED,
    CODED_COMPOSITES,
    CONSTRAINED,
    EXPECTED,
    NULL,
    invalid_class,
    is_valid,
    only_too_precise,
    value_class,
)
from hl7v2.escape import Delimiters, unescape
from hl7v2.rules import TABLE_RULES, FieldRule, LeafRule, TypeRules
from hl7v2.standard import ANY, Table

REPETITIONS_MAX: Final = 1_000
"""Of a field that has more, and something wrong, the rest is not looked at."""
_VALUES_SHOWN_MAX: Final = 12
_LENGTH_RULES: Final = frozenset({"length", "length-negotiated", "length-component"})


class Problem(NamedTuple):
    """A finding before its severity is known."""

    rule: str
    path: str
    expected: str
    found: str
    reference: str


class Inspection:
    """Inspects the fields of one message: its delimiters, the rules of its version."""

    def __init__(self, types: TypeRules, marks: Delimiters) -> None:
        self._types = types
        self._marks = marks
        self._within = (marks.component, marks.subcomponent)
        self._version = f"HL7 v{types.standard.version}"

    def field(self, rule: FieldRule, text: str, path: str = "") -> Iterator[Problem]:
        """The problems of a field that is not empty; their paths begin with `path`, its place in the message."""
        leaf = rule.leaf
        if rule.status:
            kept = rule.status == "B"
            expected = f"{rule.title} is kept for older systems only" if kept else f"{rule.title} was withdrawn"
            yield Problem("deprecated" if kept else "withdrawn", path, expected, value_class(text), rule.reference)
            if not kept:
                return
        if leaf.type == "varies":
            return
        mark = self._marks.repetition
        parts = text.split(mark) if mark else [text]
        limit = rule.repetitions
        if limit != ANY and len(parts) > limit:
            expected = f"{rule.title} {'once' if limit == 1 else f'at most {limit} times'}"
            place = f"{path}[{limit + 1}]"
            yield Problem(rule.repetition_rule, place, expected, f"{len(parts)} repetitions", rule.reference)
        for number, part in enumerate(parts[:REPETITIONS_MAX], start=1):
            if part and part != NULL:
                yield from self._repetition(rule, part, path if number == 1 else f"{path}[{number}]")
        if len(parts) > REPETITIONS_MAX:
            expected = f"at most {REPETITIONS_MAX} repetitions; what follows is not looked at"
            yield Problem("unchecked", path, expected, f"{len(parts)} repetitions", rule.reference)

    def _repetition(self, rule: FieldRule, text: str, path: str) -> Iterator[Problem]:
        leaf = rule.leaf
        problems = list(self._value(leaf, text, path, 0))
        if leaf.type in CODED_COMPOSITES and leaf.table is not None:
            problems += self._coded(leaf, leaf.table, text, path)
        too_long = leaf.length and not (leaf.type in CODED and leaf.table) and self._length(text) > leaf.length
        if too_long and all(problem.rule in _LENGTH_RULES for problem in problems):
            problems = [self._too_long(rule.length_rule, path, leaf, text, rule.reference)]
        yield from problems

    def _value(self, leaf: LeafRule, text: str, path: str, level: int) -> Iterator[Problem]:
        """The problems of a value of a field (level 0), component (1) or subcomponent (2) that is not empty."""
        components = self._types.components(leaf.type)
        if components and level < len(self._within):
            yield from self._parts(leaf, components, text, path, level)
            return
        if components or leaf.type in {"varies", "CM"}:
            return
        for mark in self._within[level:]:
            if mark and mark in text:
                expected = f"{leaf.name}, {leaf.type}, without a delimiter that is not escaped"
                yield Problem("component-extra", path, expected, value_class(text), f"{self._version} §2.7")
                return
        yield from self._leaf(leaf, unescape(text, self._marks), path, level)

    def _parts(
        self, leaf: LeafRule, components: tuple[LeafRule, ...], text: str, path: str, level: int
    ) -> Iterator[Problem]:
        mark = self._within[level]
        parts = text.split(mark) if mark else [text]
        reference = f"{self._version} data type {leaf.type}"
        for number, component in enumerate(components, start=1):
            part = parts[number - 1] if number <= len(parts) else ""
            if part and part != NULL:
                # TS is a time that was given parts; without them its place is the field's.
                place = path if leaf.type == "TS" and len(parts) == 1 else f"{path}.{number}"
                yield from self._value(component, part, place, level + 1)
            elif not part and component.required:
                rule = "component-required" if number == 1 else "component-expected"
                expected = f"{leaf.type}.{number} {component.name}"
                yield Problem(rule, f"{path}.{number}", expected, "empty", reference)
        if any(parts[len(components) :]):
            place = f"{path}.{len(components) + 1}" if level == 0 else path
            expected = f"at most {len(components)} parts of {leaf.type}"
            yield Problem("component-extra", place, expected, f"{len(parts)} parts", reference)

    def _coded(self, leaf: LeafRule, table: Table, text: str, path: str) -> Iterator[Problem]:
        """The code of a coded element, where no other coding system is named for it."""
        mark = self._marks.component
        parts = text.split(mark) if mark else [text]
        system = parts[2] if len(parts) > 2 else ""
        if parts[0] and parts[0] != NULL and (not system or system.startswith("HL7")):
            code = parts[0].split(self._marks.subcomponent or None, 1)[0] if self._marks.subcomponent else parts[0]
            yield from self._code(leaf, table, unescape(code, self._marks), f"{path}.1")

    def _leaf(self, leaf: LeafRule, text: str, path: str, level: int) -> Iterator[Problem]:
        reference = f"{self._version} data type {leaf.type}"
        if leaf.type in CODED and leaf.table is not None:
            yield from self._code(leaf, leaf.table, text, path)
        elif leaf.type in CONSTRAINED and not is_valid(leaf.type, text):
            rule = "data-type"
            if is_valid(leaf.type, text.strip()):
                rule = "space"
            elif only_too_precise(leaf.type, text):
                rule = "precision"
            elif leaf.type == "DTM" and self._types.standard.version < "2.5" and not text[:1].isdigit():
                rule = "time-text"
            yield Problem(rule, path, EXPECTED[leaf.type], invalid_class(leaf.type, text), reference)
        elif leaf.type in CODED and text != text.strip():
            yield Problem("space", path, f"{leaf.name} without spaces around it", value_class(text), reference)
        elif level and leaf.length and len(text) > leaf.length:
            yield self._too_long("length-component", path, leaf, text, reference)

    def _code(self, leaf: LeafRule, table: Table, text: str, path: str) -> Iterator[Problem]:
        if leaf.has(text):
            return
        rule = TABLE_RULES[table.kind]
        expected, folded = _described(table)
        if text.strip() in table.values:
            rule = "space"
        elif text.strip().casefold() in folded:
            rule = "case"
        yield Problem(rule, path, expected, value_class(text), f"{self._version} table {table.number}")

    def _too_long(self, rule: str, path: str, leaf: LeafRule, text: str, reference: str) -> Problem:
        expected = f"{leaf.name} of at most {leaf.length} characters"
        return Problem(rule, path, expected, f"{self._length(text)} characters", reference)

    def _length(self, text: str) -> int:
        """Length in characters, delimiters included, escape sequences counted as what they stand for (§2.5.3.2)."""
        return len(unescape(text, self._marks))


@lru_cache(maxsize=512)
def _described(table: Table) -> tuple[str, frozenset[str]]:
    """What is expected of a code of a table, and its codes without their case."""
    values = sorted(table.values)
    shown = ", ".join(values[:_VALUES_SHOWN_MAX]) + (", …" if len(values) > _VALUES_SHOWN_MAX else "")
    folded = frozenset(value.casefold() for value in values)
    return f"a code of table {table.number} {table.name} ({shown})", folded
