"""Field patterns: one regular expression over bytes that a field without any finding matches.

They are the fast half of the validator: a field that matches is right and nothing more is looked at; one that does not
is looked at by `inspection`, which knows why. So a pattern may be too strict (that costs time), never too lax.

Two habits keep them fast: texts are possessive, so no value is read twice however it ends; and what may be absent is a
branch with nothing in it, which costs the regular expression engine less than a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from hl7v2.data_types import CODED, CODED_COMPOSITES, CONSTRAINED, LENGTHS, TEXT, one_of
from hl7v2.rules import FieldRule, LeafRule, TypeRules
from hl7v2.standard import ANY, Table

Check = Callable[[bytes], object]
"""Says yes (anything true) to a field without a finding."""
_SEPARATORS: Final = ("\\^", "&")
"""What separates components, and what separates subcomponents."""
_ANY_VALUE: Final = frozenset({"varies", "CM"})


def check_of(rules: TypeRules, field: FieldRule) -> Check:
    """The check of a field; `len` for one that may hold anything."""
    if field.status:
        return _never
    if field.leaf.type == "varies":
        return len
    return re.compile(_field(rules, field).encode("utf-8"), re.DOTALL).fullmatch


def _never(value: bytes) -> bool:
    return False


def _field(rules: TypeRules, field: FieldRule) -> str:
    leaf = field.leaf
    one = _repetition(rules, leaf)
    limit = 0 if _is_listed(leaf) else leaf.length
    # A field that is short as a whole has no long repetition; the repetitions of others are measured by inspection.
    short = f"(?!.{{{limit + 1}}})" if limit else ""
    if field.repetitions == 1:
        return short + one
    if field.repetitions == ANY:
        return rf"{short}(?:{one}(?:\Z|~)|~)*+"
    return f"{short}(?:{one}|)(?:~(?:{one}|)){{0,{field.repetitions - 1}}}"


def _is_listed(leaf: LeafRule) -> bool:
    """Whether the values are those of a table, of whatever length they are."""
    return leaf.type in CODED and leaf.table is not None


def _repetition(rules: TypeRules, leaf: LeafRule) -> str:
    """One repetition that is not empty."""
    components = rules.components(leaf.type)
    if components:
        coded = _coded(leaf.table) if leaf.type in CODED_COMPOSITES and leaf.table else ""
        return coded + _parts(rules, components, 0)
    return "[^~]++" if leaf.type in _ANY_VALUE else _leaf(leaf, 0, required=True)


def _coded(table: Table) -> str:
    """Before a coded element: its first component is of the table, or absent, or the third names another system."""
    return (
        rf"(?=(?:{one_of([*table.values, _NULL])}|)(?:[\^~&]|\Z)"
        rf"|{TEXT}*+\^{TEXT}*+\^(?!HL7){TEXT})"
    )  # fmt: skip


_NULL: Final = '""'


def _parts(rules: TypeRules, components: tuple[LeafRule, ...], level: int) -> str:
    """Components behind each other: any may be empty but the required ones, and those at the end left out."""
    separator = _SEPARATORS[level]
    pattern, needed = "", False
    for component in reversed(components):
        rest = pattern
        if rest:
            rest = separator + rest if needed else f"(?:{separator}{rest}|)"
        pattern = _part(rules, component, level + 1) + rest
        needed = needed or component.required
    return pattern


def _part(rules: TypeRules, leaf: LeafRule, level: int) -> str:
    """A component (level 1) or subcomponent (2), which may be empty unless it is required."""
    components = rules.components(leaf.type)
    if components and level < len(_SEPARATORS):
        inner = _parts(rules, components, level)
        if leaf.required:
            return rf"(?![\^~]|\Z){inner}"
        return f"(?:{inner}|)" if any(component.required for component in components) else inner
    return _leaf(leaf, level, required=leaf.required)


def _leaf(leaf: LeafRule, level: int, *, required: bool) -> str:
    """A value without parts; the length of a field's is measured with the field."""
    limit = leaf.length if level else 0
    empty = "" if required else "|"
    if _is_listed(leaf) and leaf.table is not None:
        return f"(?:{one_of([*leaf.table.values, _NULL])}{empty})"
    if leaf.type in CONSTRAINED:
        measured = f"(?!{TEXT}{{{limit + 1}}})" if limit and limit < LENGTHS[leaf.type] else ""
        return f"(?:{measured}{CONSTRAINED[leaf.type]}|{_NULL}{empty})"
    if leaf.type in CODED:
        measured = f"(?!{TEXT}{{{limit + 1}}})" if limit else ""
        return rf"(?:(?! ){measured}{TEXT}++(?<! ){empty})"
    if limit:
        return f"{TEXT}{{{int(required)},{limit}}}+"
    return TEXT + ("++" if required else "*+")
