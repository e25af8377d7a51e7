"""Source expressions compiled to closures: FHIRPath, HL7 paths, JMESPath, columns. Nothing raises but what it says.

`a | b` is a union as in FHIRPath: of one value the first that is there is taken. Names, indexes, `first()`,
`where(field='x')` and `extension('url')` are compiled here; other FHIRPath is left to fhirpathpy, other JMESPath to
jmespath.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jmespath

from sync.core.hl7_reading import Message, Segment
from sync.core.mapping.row import SOURCE_CHARACTERS_MAX, SourceKind
from sync.core.mapping.rule import RuleError

Read = Callable[[Any], Any]
"""Source → value: None when absent, a list when there are several. Raises ValueError for what cannot be evaluated."""
THIS: Final = "$this"
FIELD: Final = "$field"


def compile_source(kind: SourceKind, text: str, *, below: bool = False) -> Read:
    """A reader of an expression; `below`: on an item of a `[*]` row. Raises ValueError when it is no expression."""
    if not text.strip() or len(text) > SOURCE_CHARACTERS_MAX:
        raise ValueError(f"an expression has 1 to {SOURCE_CHARACTERS_MAX} characters")
    if kind is SourceKind.FILE:
        return _column(text.strip())
    if kind is SourceKind.UNITY:
        return _jmespath(text.strip())
    parts = [part.strip() for part in split_union(text)]
    compile_one = _hl7 if kind is SourceKind.HL7V2 else _fhirpath
    readers = [compile_one(part, below) for part in parts]
    return readers[0] if len(readers) == 1 else _union(readers)


def _union(readers: Sequence[Read]) -> Read:
    def read(source: Any) -> Any:
        found: list[Any] = []
        for each in readers:
            value = each(source)
            if type(value) is list:
                found += value
            elif value is not None:
                found.append(value)
        return Union(found) if found else None

    return read


class Union(list[Any]):
    """The values of a union: where one is wanted the first is meant, not an ambiguity."""


def split_union(text: str) -> list[str]:
    """At `|` outside quotes and brackets."""
    parts, depth, quoted, begin = [], 0, False, 0
    for place, letter in enumerate(text):
        if letter == "'":
            quoted = not quoted
        elif not quoted and letter in "()":
            depth += 1 if letter == "(" else -1
        elif not quoted and depth == 0 and letter == "|":
            parts.append(text[begin:place])
            begin = place + 1
    return [*parts, text[begin:]]


# ---- FHIRPath ----

_NATIVE: Final = re.compile(
    r"\.?(?:(?P<first>first\(\))|where\((?P<key>[A-Za-z]+)\s*=\s*'(?P<value>[^'\\]*)'\)"
    r"|extension\('(?P<url>[^'\\]*)'\)|(?P<name>[A-Za-z][A-Za-z0-9]*)(?!\())|\[(?P<index>[0-9]{1,4})\]"
)


def native_steps(text: str) -> list[re.Match[str]] | None:
    """The steps of an expression that is compiled here, None for others."""
    found, place = [], 0
    while place < len(text):
        match = _NATIVE.match(text, place)
        if match is None or (match["index"] is None and (place > 0) != text.startswith(".", place)):
            return None
        found.append(match)
        place = match.end()
    return found


def _fhirpath(text: str, below: bool) -> Read:
    if text == THIS:
        return lambda source: source
    steps = native_steps(text.removeprefix("$this."))
    if steps is None:
        return _by_library(text)
    if not below and steps[0]["name"] is not None and steps[0]["name"][0].isupper():
        steps = steps[1:]  # `Patient.name`: the type itself
    if not steps:
        return lambda source: source
    chain = _chain([_native_step(step) for step in steps])
    if len(steps) == 3 and steps[0]["name"] and steps[1]["key"] and steps[2]["name"]:
        return _field_of_chosen(steps[0]["name"], (steps[1]["key"], steps[1]["value"]), steps[2]["name"], chain)
    shape = [(step["name"], step["index"]) for step in steps]
    if len(shape) == 3 and shape[0][0] and shape[1][1] and shape[2][0]:
        return _field_of_item(shape[0][0], int(shape[1][1]), shape[2][0], chain)
    return chain


def _field_of_item(rows: str, index: int, name: str, otherwise: Read) -> Read:
    """`name[0].family` in one step: what most rows read. What is not plain goes the long way."""

    def read(source: Any) -> Any:
        items = source.get(rows) if type(source) is dict else None
        if type(items) is list and len(items) > index:
            item = items[index]
            if type(item) is dict:
                found = item.get(name)
                if found is not None:
                    return found
        return otherwise(source)

    return read


def _field_of_chosen(rows: str, wanted: tuple[str, str], name: str, otherwise: Read) -> Read:
    """`telecom.where(system='phone').value` in one step, where one row is meant; else the long way."""
    key, value = wanted

    def read(source: Any) -> Any:
        items = source.get(rows) if type(source) is dict else None
        if type(items) is not list:
            return otherwise(source)
        found = None
        for item in items:
            if type(item) is dict and item.get(key) == value:
                if found is not None:
                    return otherwise(source)
                found = item.get(name)
                if found is None:
                    return otherwise(source)
        return found

    return read


def _chain(steps: list[Read]) -> Read:
    if len(steps) == 1:
        return steps[0]
    if len(steps) == 2:
        one, two = steps
        return lambda source: two(one(source))
    if len(steps) == 3:
        first, second, third = steps
        return lambda source: third(second(first(source)))

    def read(source: Any) -> Any:
        for step in steps:
            source = step(source)
            if source is None:
                return None
        return source

    return read


def _native_step(match: re.Match[str]) -> Read:
    if match["first"]:
        return _index(0)
    if match["index"] is not None:
        return _index(int(match["index"]))
    if match["key"]:
        return _where(match["key"], match["value"])
    if match["url"] is not None:
        extension, where = _name("extension"), _where("url", match["url"])
        return lambda value: where(extension(value))
    return _name(match["name"])


_CHOICES: Final = frozenset({"value", "deceased", "onset", "effective", "multipleBirth"})


def _name(name: str) -> Read:
    """A field; of a list the fields of its items, flat. `value` also finds `valueString` and the like."""
    is_choice = name in _CHOICES

    def of_one(value: dict[str, Any]) -> Any:
        found = value.get(name)
        if found is None and is_choice:
            return next((each for key, each in value.items() if key.startswith(name) and key != name), None)
        return found

    def read(value: Any) -> Any:
        if type(value) is dict:
            return of_one(value)
        if type(value) is not list:
            return None
        found: list[Any] = []
        for item in value:
            one = of_one(item) if type(item) is dict else None
            if type(one) is list:
                found += one
            elif one is not None:
                found.append(one)
        return found or None

    return read


def _index(index: int) -> Read:
    def read(value: Any) -> Any:
        if type(value) is list:
            return value[index] if index < len(value) else None
        return value if index == 0 else None

    return read


def _where(key: str, wanted: str) -> Read:
    def read(value: Any) -> Any:
        items = value if type(value) is list else [value]
        return [item for item in items if type(item) is dict and item.get(key) == wanted] or None

    return read


def _by_library(text: str) -> Read:
    import fhirpathpy
    from fhirpathpy.models import models

    # What the library cannot read it leaves out, and raises whatever it meets.
    try:
        _demand_whole(text)
        evaluate: Any = fhirpathpy.compile(text, models["r4"])
    except Exception as error:
        raise ValueError("no FHIRPath expression") from error

    def read(source: Any) -> Any:
        try:
            found = evaluate(source)
        except Exception as error:
            raise RuleError("expression") from error
        return list(found) if found else None

    return read


def _demand_whole(text: str) -> None:
    """Raises ValueError unless the grammar reads the whole text without a mistake."""
    from antlr4 import CommonTokenStream, InputStream, Token  # type: ignore[import-untyped]
    from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
    from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

    lexer = FHIRPathLexer(InputStream(text))
    lexer.removeErrorListeners()
    parser = FHIRPathParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.expression()
    if parser.getNumberOfSyntaxErrors() or parser.getTokenStream().LA(1) != Token.EOF:
        raise ValueError("no FHIRPath expression")


# ---- HL7 v2 ----

_HL7: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<occurrence>\*|[1-9][0-9]{0,3})\])?"
    r"(?:-(?P<field>[1-9][0-9]{0,2})(?:\[(?P<repetition>\*|[1-9][0-9]{0,3})\])?"
    r"(?:\.(?P<component>[1-9][0-9]?)(?:\.(?P<subcomponent>[1-9][0-9]?))?)?)?"
)
_BELOW: Final = re.compile(
    r"(?:-(?P<field>[1-9][0-9]{0,2}))?(?:\.(?P<component>[1-9][0-9]?)(?:\.(?P<sub>[1-9][0-9]?))?)?"
)


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of a field, or (field 0) a segment, as an item of a `[*]` row."""

    segment: Segment
    field: int
    number: int


def _hl7(text: str, below: bool) -> Read:
    if below:
        return _hl7_below(text)
    match = _HL7.fullmatch(text)
    if match is None:
        raise ValueError("no HL7 path (expected e.g. PID-5[2].1, PID-3[*] or AIP[*])")
    name = match["segment"]
    if match["occurrence"] == "*" or match["repetition"] == "*":
        if match["component"] or (match["occurrence"] == "*") == (match["field"] is not None):
            raise ValueError("[*] stands last: PID-3[*] or AIP[*]")
        return _each_segment(name) if match["field"] is None else _each_repetition(name, int(match["field"]))
    if match["field"] is None:
        raise ValueError("a path names a field: PID-5")
    return _one_field(
        name, int(match["occurrence"] or 1), int(match["field"]), int(match["repetition"] or 1),
        int(match["component"] or 1), int(match["subcomponent"] or 1),
    )  # fmt: skip


def _one_field(name: str, occurrence: int, field: int, repetition: int, component: int, sub: int) -> Read:
    def read(message: Message) -> Any:
        found = message.segments(name)
        if len(found) < occurrence:
            return None
        segment = found[occurrence - 1]
        return segment.text(field, component, repetition=repetition, subcomponent=sub) or None

    return read


def _each_segment(name: str) -> Read:
    return lambda message: [Repetition(segment, 0, 1) for segment in message.segments(name)] or None


def _each_repetition(name: str, field: int) -> Read:
    def read(message: Message) -> Any:
        found = message.segments(name)
        if not found or found[0].is_null(field):
            return None
        return [Repetition(found[0], field, number + 1) for number in range(found[0].repetitions(field))] or None

    return read


def _hl7_below(text: str) -> Read:
    if text == THIS:
        return lambda item: item
    if text == FIELD:
        return lambda item: str(item.field)
    match = _BELOW.fullmatch(text)
    if match is None or not text:
        raise ValueError("below [*] a path is written like .1, .4.2 or (of a segment) -3.1")
    field, component, sub = int(match["field"] or 0), int(match["component"] or 1), int(match["sub"] or 1)

    def read(item: Repetition) -> Any:
        number = field or item.field
        if not number:
            return None
        return item.segment.text(number, component, repetition=item.number, subcomponent=sub) or None

    return read


# ---- Unity JSON, files ----

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _jmespath(text: str) -> Read:
    if text in {THIS, "@"}:
        return lambda source: source
    if _PLAIN.fullmatch(text):
        return lambda source: source.get(text) if type(source) is dict else None
    try:
        compiled = jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError("no JMESPath expression") from error

    def read(source: Any) -> Any:
        try:
            return compiled.search(source)
        except (jmespath.exceptions.JMESPathError, TypeError, ValueError) as error:
            raise RuleError("expression") from error

    return read


def _column(name: str) -> Read:
    if name == THIS:
        return lambda source: source

    def read(source: Any) -> Any:
        return source.get(name) if isinstance(source, Mapping) else None

    return read
