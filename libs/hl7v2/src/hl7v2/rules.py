"""What is checked, and how bad it is: a row for each rule, and the standard's rows as a profile changes them.

The severity of a rule is what the standard makes of it. What deviates and is yet understood (a local code, a length
that partners negotiate, a component too many) is a warning; withdrawn fields are worth an info.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from hl7v2.data_types import CODED
from hl7v2.standard import PRIMITIVES, Standard, Table

SEVERITIES: Final = ("error", "warning", "info", "off")


class Rule(NamedTuple):
    """A rule: its code in HL7 table 0357 (for ERR-3) and its severity, `off` when it is told only on demand."""

    code: str
    severity: str


RULES: Final[Mapping[str, Rule]] = {
    # Structure (v2.5.1 §2.12).
    "segment-missing": Rule("100", "error"),
    "segment-misplaced": Rule("100", "error"),
    "segment-repeated": Rule("100", "error"),
    "segment-unknown": Rule("100", "warning"),  # the version has no such segment: to be ignored (§2.13)
    "segment-name": Rule("100", "error"),
    "segment-z": Rule("100", "off"),
    "unchecked": Rule("100", "warning"),  # so much is wrong, or repeated, that the rest is not looked at
    # Fields and components (§2.5.3, §2.5.4).
    "field-required": Rule("101", "error"),
    "component-required": Rule("101", "error"),  # the first one: without it the value says nothing
    "component-expected": Rule("101", "warning"),
    "repetition": Rule("102", "error"),
    "repetition-text": Rule("102", "warning"),  # an unescaped delimiter in prose
    "field-extra": Rule("102", "warning"),
    "component-extra": Rule("102", "warning"),
    "withdrawn": Rule("102", "info"),
    "deprecated": Rule("102", "info"),
    # Values (chapter 2.A, chapter 2.C).
    "data-type": Rule("102", "error"),
    "precision": Rule("102", "warning"),
    "time-text": Rule("102", "warning"),  # words in a time, up to v2.4, which calls it a string: seen in the field
    "space": Rule("102", "warning"),
    "value-type": Rule("103", "error"),
    "table-hl7": Rule("103", "error"),
    "table-extended": Rule("103", "warning"),
    "table-user": Rule("103", "warning"),
    "table-profile": Rule("103", "error"),
    "case": Rule("103", "warning"),
    "length": Rule("104", "error"),
    "length-negotiated": Rule("104", "warning"),
    "length-component": Rule("104", "warning"),
    "set-id": Rule("102", "warning"),
    # The message as a whole (§2.15.9).
    "message-type": Rule("200", "error"),
    "trigger-event": Rule("201", "error"),
    "event-elsewhere": Rule("201", "warning"),
    "event-local": Rule("201", "info"),
    "structure-name": Rule("200", "warning"),
    "version": Rule("203", "warning"),
    "too-many": Rule("207", "info"),
}

TABLE_RULES: Final = {"H": "table-hl7", "E": "table-extended", "U": "table-user", "P": "table-profile"}
_COMPOSITE_LENGTH_MIN: Final = 180
"""Composite types outgrew the shorter lengths of their fields, which the standard left as they were (§2.5.3.2)."""
_PROSE: Final = frozenset({"ST", "TX", "FT"})


@dataclass(frozen=True, slots=True)
class LeafRule:
    """What a value must be: its data type, the length of one repetition (0: any), the table that it is checked with."""

    type: str
    required: bool
    length: int
    table: Table | None
    name: str

    def has(self, code: str) -> bool:
        """Whether its table has a code."""
        return self.table is None or code in self.table.values


@dataclass(frozen=True, slots=True, eq=False)
class FieldRule:
    """A field as it is checked. `path` is `PID-3`; `status` is "W" withdrawn, "B" deprecated, "" neither."""

    path: str
    reference: str
    leaf: LeafRule
    required: bool
    repetitions: int
    status: str
    length_rule: str

    @property
    def title(self) -> str:
        """Path and name, for people."""
        return f"{self.path} {self.leaf.name}"

    @property
    def repetition_rule(self) -> str:
        """In prose a repetition separator is most likely not meant as one."""
        return "repetition-text" if self.leaf.type in _PROSE else "repetition"


class TypeRules:
    """Data types of a version as rules: what they consist of, made when first asked for."""

    def __init__(self, standard: Standard, tables: Mapping[str, Table]) -> None:
        self.standard = standard
        self._own_tables = tables
        self._components: dict[str, tuple[LeafRule, ...]] = {}

    def components(self, name: str) -> tuple[LeafRule, ...]:
        """The components of a composite type; none of a primitive one."""
        found = self._components.get(name)
        if found is None:
            rows = self.standard.type(name) or ()
            found = self._components[name] = tuple(
                LeafRule(
                    _primitive(name, number, row.type), bool(row.required), row.length, self.table(row.table), row.name
                )
                for number, row in enumerate(rows, start=1)
            )
        return found

    def table(self, number: str) -> Table | None:
        """A table to check with: None where there is none, or its list is open."""
        if not number:
            return None
        table = self._own_tables.get(number) or self.standard.table(number)
        return None if table is None or table.kind == "O" else table


def _primitive(name: str, number: int, kind: str) -> str:
    """The type of a component. Up to v2.4 the time in TS is called a string, whose form the text then gives as that of
    DTM (v2.3 §2.8.42, v2.4 §2.9.47): a date that is none is as wrong there.
    """
    return "DTM" if (name, number, kind) == ("TS", 1, "ST") else kind


def length_rule(version: str, kind: str, length: int) -> str:
    """Which rule a value breaks that is too long for its field: lengths are normative in v2.3–v2.6 (§2.5.3.2).

    Before, they are "of conceptual importance" only; from v2.7 on they are what conformance asks for (v2.7 §2.5.5).
    Codes are told by their table; sites that add to a table need room for it.
    """
    if version < "2.3" or version >= "2.7" or kind in CODED:
        return "length-negotiated"
    return "length" if kind in PRIMITIVES or length >= _COMPOSITE_LENGTH_MIN else "length-negotiated"
