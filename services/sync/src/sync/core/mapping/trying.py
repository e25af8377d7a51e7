"""What a mapping does with one source, row by row, and what two mappings make differently of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sync.core.mapping.compiling import GATHER, CompiledMapping
from sync.core.mapping.row import FieldMapping, MappingRow, SourceKind
from sync.core.mapping.rule import RuleError
from sync.core.mapping.source import compile_source
from sync.core.mapping.target import EACH, Step, parse_target

_VALUES_SHOWN_MAX: Final = 20


def try_rows(mapping: FieldMapping, compiled: CompiledMapping, source: Any) -> list[dict[str, Any]]:
    """Per row: its target, what it read (`input`, a list for rows of items), what it gave (`output`), its findings."""
    found = compiled(source)
    rows = []
    for number, row in enumerate(mapping.rows, start=1):
        findings = [
            {"rule": each.rule, "value_class": each.value_class} for each in found.findings if each.row == number
        ]
        steps = parse_target(row.target)
        rows.append(
            {
                "row": number,
                "target": row.target,
                "input": _input(mapping, row, source),
                "output": _shown(_at(found.document, steps)),
                "findings": findings,
            }
        )
    return rows


def _input(mapping: FieldMapping, row: MappingRow, source: Any) -> Any:
    items, in_item = _items(mapping, row, source)
    values = [_read(mapping.source_kind, row, item, below=in_item) for item in items]
    return values[:_VALUES_SHOWN_MAX] if in_item else values[0]


def _items(mapping: FieldMapping, row: MappingRow, source: Any) -> tuple[list[Any], bool]:
    """What the row reads from: the items of the `[*]` rows above it, else the source itself."""
    parts = row.target.split(".")
    items, in_item = [source], False
    for place in range(1, len(parts)):
        above = ".".join(parts[:place])
        parent = next((each for each in mapping.rows if each.target == above and above.endswith("[*]")), None)
        if parent is None:
            continue
        read = [_read(mapping.source_kind, parent, item, below=in_item) for item in items]
        items = [
            one for value in read for one in (value if isinstance(value, list) else () if value is None else [value])
        ]
        in_item = True
    return items, in_item


def _read(kind: SourceKind, row: MappingRow, item: Any, *, below: bool) -> Any:
    gathered = row.transforms and row.transforms[0].name == GATHER
    texts = row.transforms[0].parameters["sources"] if gathered else [row.source] if row.source else []
    values = []
    for text in texts:
        try:
            values.append(compile_source(kind, text, below=below)(item))
        except (RuleError, ValueError, TypeError):
            values.append(None)
    return values if gathered else values[0] if values else None


def _shown(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values[:_VALUES_SHOWN_MAX] if values else None


def _at(value: Any, steps: tuple[Step, ...]) -> list[Any]:
    """The values at a target of a document."""
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    below = value.get(step.name) if isinstance(value, dict) else None
    if below is None:
        return []
    if step.select is None or (step.select == EACH and not rest):
        return _at(below, rest)
    items = below if isinstance(below, list) else [below]
    if isinstance(step.select, int):
        items = items[step.select : step.select + 1]
    elif isinstance(step.select, tuple):
        name, wanted = step.select
        items = [item for item in items if isinstance(item, dict) and item.get(name) == wanted]
    return [one for item in items for one in _at(item, rest)]


def changed_targets(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Where two documents differ, as targets (`names[*].family`), sorted."""
    one, other = _flat(before), _flat(after)
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))


def _flat(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, below in value.items():
                walk(f"{path}.{name}" if path else name, below)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                walk(f"{path}[*]", item)
        else:
            found.setdefault(path, []).append(value)

    walk("", document)
    return found
