"""Targets: places in canonical records, `names[0].family`, `telecom[system=phone].value`, `identifiers[*].value`."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from common.models.clock import instant_text
from common.models.records import RECORD_TYPES, TEXT_CHARACTERS_MAX, Instant, Part, PartialDate
from sync.core.mapping.rule import RuleError

_STEP: Final = re.compile(r"([a-z][a-z_]*)(?:\[(?:(\*)|([0-9]{1,3})|([a-z_]+)=([^\[\]=]{1,100}))\])?")
EACH: Final = "*"


@dataclass(frozen=True, slots=True)
class Step:
    """A field; in a list `select` is EACH, an index, or (field, value); None for the field as a whole."""

    name: str
    select: str | int | tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TargetType:
    """What stands at a target. `take(value)` gives it in document form or raises ValueError; `model` is an object's;
    `codes` are what a code can be."""

    kind: str
    is_list: bool
    take: Callable[[Any], Any]
    model: type[Part] | None = None
    codes: frozenset[str] | None = None


def parse_target(text: str) -> tuple[Step, ...]:
    """The steps of a target; raises ValueError when the text is none."""
    steps = []
    for part in _parts(text):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError("a target is written like names[0].family or telecom[system=phone].value")
        name, each, index, key, value = match.groups()
        select = EACH if each else int(index) if index else (key, value) if key else None
        steps.append(Step(name, select))
    return tuple(steps)


def _parts(text: str) -> list[str]:
    """At the dots outside brackets."""
    return re.split(r"\.(?![^\[]*\])", text)


def type_of(record_type: str, steps: tuple[Step, ...]) -> TargetType:
    """The type at a target of a record type; raises ValueError naming the step that the records do not have."""
    model: type[Part] | None = RECORD_TYPES[record_type]
    found: TargetType | None = None
    for step in steps:
        if model is None or step.name not in model.model_fields:
            raise ValueError(f"{step.name}: no such field")
        found = field_type(model, step.name)
        if step.select is not None and not found.is_list:
            raise ValueError(f"{step.name}: is no list")
        if isinstance(step.select, tuple) and (found.model is None or step.select[0] not in found.model.model_fields):
            raise ValueError(f"{step.name}: its items have no field {step.select[0]}")
        if step.select is not None:
            found = item_type(model, step.name)
        elif found.is_list and step is not steps[-1]:
            raise ValueError(f"{step.name}: is a list, say which item")
        model = found.model
    if found is None:
        raise ValueError("an empty target")
    return found


@cache
def field_type(model: type[Part], name: str) -> TargetType:
    """The type of a model's field."""
    hint = _plain(get_type_hints(model, include_extras=True)[name])
    if get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) is tuple:
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple:
        item = _scalar(get_args(hint)[0])
        return TargetType(item.kind, True, _list_of(item.take), item.model)
    return _scalar(hint)


@cache
def item_type(model: type[Part], name: str) -> TargetType:
    """The type of an item of a model's list."""
    hint = _plain(get_type_hints(model, include_extras=True)[name])
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return _scalar(get_args(hint)[0])


def _plain(hint: Any) -> Any:
    """Without `| None`."""
    if get_origin(hint) in {Union, types.UnionType}:
        return next(each for each in get_args(hint) if each is not type(None))
    return hint


def _scalar(hint: Any) -> TargetType:
    if isinstance(hint, type) and issubclass(hint, Part):
        return TargetType("object", False, _object(hint), hint)
    if hint == Instant:
        return TargetType("instant", False, _instant)
    if hint == PartialDate:
        return TargetType("date", False, _checked(TypeAdapter(hint)))
    if get_origin(hint) is Literal:
        codes = frozenset(get_args(hint))
        return TargetType("code", False, _code(codes), codes=codes)
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if base is str and not any(getattr(each, "pattern", None) for each in _metadata(hint)):
        return TargetType("text", False, _text)
    kind = {str: "pattern", bool: "boolean", int: "integer"}.get(base, "any")
    return TargetType(kind, False, _checked(TypeAdapter(hint)))


def _metadata(hint: Any) -> list[Any]:
    found = []
    for each in get_args(hint)[1:]:
        found += [each, *getattr(each, "metadata", [])]
    return found


def _text(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= TEXT_CHARACTERS_MAX:
        raise RuleError("text")
    return value


def _code(codes: frozenset[str]) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        if type(value) is not str or value not in codes:
            raise RuleError("code")
        return value

    return take


def _instant(value: Any) -> str:
    instant = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(instant, datetime) or instant.tzinfo is None:
        raise RuleError("instant")
    return instant_text(instant)


def _checked(adapter: TypeAdapter[Any]) -> Callable[[Any], Any]:
    validate = adapter.validate_python

    def take(value: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise RuleError("type") from error

    return take


def _object(model: type[Part]) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        try:
            return model.model_validate(value).model_dump(mode="json", exclude_defaults=True)
        except ValidationError as error:
            raise RuleError("object") from error

    return take


def _list_of(take_item: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        items = value if type(value) is list else [value]
        if len(items) > 200:
            raise RuleError("list")
        return [take_item(item.strip() if type(item) is str else item) for item in items if item is not None]

    return take
