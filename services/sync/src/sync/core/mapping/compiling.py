"""A mapping compiled once: a tree of closures that follows the shape of the record.

Texts lose the blanks around them, and what is empty is absent: in every source, before anything else looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.models.records import RECORD_TYPES, TEXT_CHARACTERS_MAX
from sync.core.mapping.row import (
    TRANSFORMS_MAX,
    FieldMapping,
    MappedRecord,
    MappingRow,
    RecordFinding,
    SourceKind,
    TransformUse,
)
from sync.core.mapping.rule import RuleError
from sync.core.mapping.shapes import TRANSFORMS
from sync.core.mapping.source import Read, Union, compile_source
from sync.core.mapping.target import EACH, Step, TargetType, parse_target, type_of
from sync.core.mapping.transform import Surroundings
from sync.core.rejection import value_class

GATHER: Final = "gather"
"""The transform that reads several sources: parameter `sources`, a list; it gives texts, "" for what is absent."""
_ITEMS_MAX: Final = 200
_MISSING: Final = object()
"""A required value of an item is not there: the item is left out."""
Findings = list[RecordFinding]
Build = Callable[[Any, Findings], Any]


class RowMistake(Exception):
    """A row that cannot be compiled: which column of it, a code, a sentence."""

    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class CompiledMapping:
    """Call it with a source: JSON of FHIR or Unity, an HL7 message, a row of a file by column names."""

    record_type: str
    build: Build

    def __call__(self, source: Any) -> MappedRecord:
        """The document and the findings. Never raises for what stands in a source; the same source, the same result."""
        findings: Findings = []
        document = self.build(source, findings)
        return MappedRecord({} if document is None or document is _MISSING else document, tuple(findings))


def compile_mapping(mapping: FieldMapping, surroundings: Surroundings | None = None) -> CompiledMapping:
    """The closures of a mapping; raises RowMistake for one that `check_mapping` refuses."""
    if mapping.record_type not in RECORD_TYPES:
        raise RowMistake("record_type", "mapping.unknown-record-type", "there are no records of that type")
    root = _Node()
    for number, row in enumerate(mapping.rows, start=1):
        _place(root, number, row)
    return CompiledMapping(mapping.record_type, _object(root, (), _Context(mapping, surroundings or Surroundings())))


@dataclass(slots=True)
class _Node:
    """A place in the record: the row that fills it, and what lies below it by field and item."""

    number: int = 0
    row: MappingRow | None = None
    below: dict[str, dict[Any, _Node]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Context:
    mapping: FieldMapping
    surroundings: Surroundings
    in_item: bool = False

    @property
    def inside(self) -> _Context:
        return _Context(self.mapping, self.surroundings, in_item=True)


def _place(root: _Node, number: int, row: MappingRow) -> None:
    node = root
    try:
        steps = parse_target(row.target)
    except ValueError as error:
        raise RowMistake("target", "mapping.target-syntax", str(error)) from error
    for step in steps:
        node = node.below.setdefault(step.name, {}).setdefault(step.select, _Node())
    if node.row is not None:
        raise RowMistake("target", "mapping.duplicate-target", f"row {node.number} fills it, too")
    node.number, node.row = number, row


def _object(node: _Node, steps: tuple[Step, ...], context: _Context) -> Build:
    builds = tuple((name, _field(name, chosen, steps, context)) for name, chosen in node.below.items())

    def build(source: Any, findings: Findings) -> Any:
        found = {}
        for name, each in builds:
            value = each(source, findings)
            if value is not None:
                if value is _MISSING:
                    return _MISSING
                found[name] = value
        return found or None

    return build


def _field(name: str, chosen: dict[Any, _Node], steps: tuple[Step, ...], context: _Context) -> Build:
    if None in chosen or EACH in chosen:
        if len(chosen) > 1:
            raise RowMistake("target", "mapping.duplicate-target", f"{name} is filled both as a whole and by items")
        select, node = next(iter(chosen.items()))
        here = (*steps, Step(name, select))
        if select == EACH and node.below:
            return _each(node, here, context)
        # `x[*]` with nothing below it is the list as a whole.
        return _filled(node, (*steps, Step(name)), context)
    ordered = sorted(chosen.items(), key=lambda item: item[0] if isinstance(item[0], int) else _ITEMS_MAX)
    items = tuple((select, _filled(node, (*steps, Step(name, select)), context)) for select, node in ordered)

    def build(source: Any, findings: Findings) -> Any:
        found = []
        for select, each in items:
            value = each(source, findings)
            if value is _MISSING:
                continue
            if value is not None:
                found.append({select[0]: select[1], **value} if type(select) is tuple else value)
        return found or None

    return build


def _filled(node: _Node, steps: tuple[Step, ...], context: _Context) -> Build:
    if node.row is None:
        type_of_steps(context, steps)
        return _object(node, steps, context)
    if node.below:
        raise RowMistake("target", "mapping.duplicate-target", "rows below it fill its parts, too")
    return _leaf(node.number, node.row, type_of_steps(context, steps), context)


def type_of_steps(context: _Context, steps: tuple[Step, ...]) -> TargetType:
    """The type at a target; raises RowMistake for one that the records do not have."""
    try:
        return type_of(context.mapping.record_type, steps)
    except ValueError as error:
        raise RowMistake("target", "mapping.unknown-target", str(error)) from error


def _each(node: _Node, steps: tuple[Step, ...], context: _Context) -> Build:
    type_of_steps(context, steps)
    if node.row is None or not node.row.source:
        raise RowMistake("target", "mapping.no-items", "a row for the [*] itself says where its items come from")
    if node.row.transforms or node.row.default is not None:
        raise RowMistake("transforms", "mapping.items-transformed", "a row for [*] has neither transform nor default")
    read = _read(node.row.source, context)
    number, target, required = node.number, node.row.target, node.row.required
    build_item = _object(node, steps, context.inside)
    plain = context.mapping.source_kind in {SourceKind.FHIR, SourceKind.UNITY}

    def build(source: Any, findings: Findings) -> Any:
        try:
            items = read(source)
        except RuleError as error:
            findings.append(RecordFinding(number, target, error.rule, value_class(source)))
            return None
        found: list[Any] = []
        for item in items if isinstance(items, list) else () if items is None else (items,):
            if plain and type(item) is not dict:
                findings.append(RecordFinding(number, target, "object", value_class(item)))
                continue
            if len(found) >= _ITEMS_MAX:
                findings.append(RecordFinding(number, target, "list", "list"))
                break
            value = build_item(item, findings)
            if value is not None and value is not _MISSING:
                found.append(value)
        if required and not found:
            findings.append(RecordFinding(number, target, "required", "absent"))
        return found or None

    return build


def _read(text: str, context: _Context) -> Read:
    try:
        return compile_source(context.mapping.source_kind, text, below=context.in_item)
    except ValueError as error:
        raise RowMistake("source", "mapping.source-syntax", str(error)) from error


def _leaf(number: int, row: MappingRow, target: TargetType, context: _Context) -> Build:
    read, uses = _reader_of(row, context)
    if len(uses) > TRANSFORMS_MAX:
        raise RowMistake("transforms", "mapping.too-many-transforms", f"at most {TRANSFORMS_MAX} transforms")
    steps = tuple(_step(use, target, context.surroundings) for use in uses)
    take = target.take if target.is_list else _single_then(target.take)
    if row.default is not None:
        _check_default(take, row.default)
    fill = _filling(number, row, read, steps, take, _MISSING if context.in_item else None)
    plain = not steps and not target.is_list and target.kind in {"text", "code"}
    return _plain(read, target.codes, row.required or row.default is not None, fill) if plain else fill


def _plain(read: Read, codes: frozenset[str] | None, never_absent: bool, fill: Build) -> Build:
    """A text or code as it stands, in one step: what most rows are. Everything else goes the long way."""

    def build(source: Any, findings: Findings) -> Any:
        try:
            value = read(source)
        except RuleError:
            return fill(source, findings)
        if type(value) is str:
            value = value.strip()
            if (value in codes) if codes is not None else (0 < len(value) <= TEXT_CHARACTERS_MAX):
                return value
        elif value is None and not never_absent:
            return None
        return fill(source, findings)

    return build


def _filling(
    number: int,
    row: MappingRow,
    read: Read,
    steps: tuple[Callable[[Any], Any], ...],
    take: Callable[[Any], Any],
    missing: Any,
) -> Build:
    default, required, name = row.default, row.required, row.target

    def build(source: Any, findings: Findings) -> Any:
        value = None
        try:
            value = read(source)
            if type(value) is str:
                value = value.strip() or None
            for step in steps:
                if value is None:
                    break
                value = step(value)
            if value is not None and (value or type(value) not in _EMPTY):
                return take(value)
        except RuleError as error:
            findings.append(RecordFinding(number, name, error.rule, value_class(value)))
            return missing if required else None
        except (ValueError, TypeError, OverflowError):
            findings.append(RecordFinding(number, name, "value", value_class(value)))
            return missing if required else None
        if default is not None:
            return take(default)
        if required:
            findings.append(RecordFinding(number, name, "required", "absent"))
            return missing
        return None

    return build


_EMPTY: Final = frozenset({str, list, dict, tuple, Union})


def _check_default(take: Callable[[Any], Any], default: Any) -> None:
    try:
        take(default)
    except ValueError as error:
        raise RowMistake("default", "mapping.default-type", "the default does not fit the target's type") from error


def _reader_of(row: MappingRow, context: _Context) -> tuple[Read, tuple[TransformUse, ...]]:
    """How a row reads, and the transforms that are left."""
    if row.transforms and row.transforms[0].name == GATHER:
        return _gather(row.transforms[0].parameters, context), row.transforms[1:]
    if row.source:
        return _read(row.source, context), row.transforms
    if row.transforms and row.transforms[0].name == "constant":
        return (lambda _source: True), row.transforms
    if row.default is not None:
        return (lambda _source: None), row.transforms
    raise RowMistake("source", "mapping.no-source", "a row has a source, a constant or a default")


def _gather(parameters: Mapping[str, Any], context: _Context) -> Read:
    sources = parameters.get("sources")
    if set(parameters) != {"sources"} or not isinstance(sources, (list, tuple)) or not 1 <= len(sources) <= 20:
        raise RowMistake("transforms", "mapping.parameter", "gather needs sources, a list of 1 to 20 expressions")
    if not all(isinstance(source, str) for source in sources):
        raise RowMistake("transforms", "mapping.parameter", "sources are texts")
    readers = [_read(source, context) for source in sources]

    def read(source: Any) -> Any:
        found: list[Any] = [each(source) for each in readers]
        found = [value.strip() if type(value) is str else value for value in found]
        return ["" if value is None else value for value in found] if any(found) else None

    return read


def _step(use: TransformUse, target: TargetType, surroundings: Surroundings) -> Callable[[Any], Any]:
    transform = TRANSFORMS.get(use.name)
    if transform is None:
        raise RowMistake("transforms", "mapping.unknown-transform", f"there is no transform {use.name}")
    try:
        apply = transform.apply(use.parameters, surroundings)
    except ValueError as error:
        raise RowMistake("transforms", "mapping.parameter", str(error)) from error
    if transform.takes in {"list", "texts"}:
        return apply
    return _on_items(apply) if target.is_list else _single_then(apply)


def _on_items(apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def on_items(value: Any) -> Any:
        if not isinstance(value, list):
            return apply(value)
        found = [apply(item) for item in value if item is not None]
        return [item for item in found if item is not None]

    return on_items


def _single_then(apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One value is wanted: of a union the first, of a list its only one."""

    def on_one(value: Any) -> Any:
        if isinstance(value, list):
            if len(value) > 1 and type(value) is not Union:
                raise RuleError("several-values")
            value = value[0] if value else None
            if type(value) is str:
                value = value.strip()
            if value is None or value == "":
                return None
        return apply(value)

    return on_one
