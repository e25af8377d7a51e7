"""Why a row of a source was not taken: code, rule and value class, never the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

INVALID: Final = "record.invalid"
CONFLICT: Final = "record.conflict"
MERGE_CYCLE: Final = "record.merge-cycle"
_RULE_CHARACTERS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Rejection:
    """`code` of the error catalogue; `rule`: the field or constraint; `value_class`: what kind of value stood there."""

    code: str
    rule: str
    value_class: str


def value_class(value: Any) -> str:
    """What kind of value it is, without saying anything of its contents."""
    if value is None or value in ("", (), [], {}):
        return "absent"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "digits" if value.isdigit() else "text"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, Mapping):
        return "object"
    return "list" if isinstance(value, Sequence) else "other"


def rejection_of(error: ValidationError) -> Rejection:
    """The first thing that a record's model did not accept."""
    first = error.errors(include_url=False, include_context=False)[0]
    rule = ".".join(str(part) for part in first["loc"]) or first["type"]
    return Rejection(INVALID, rule[:_RULE_CHARACTERS_MAX], value_class(first["input"]))
