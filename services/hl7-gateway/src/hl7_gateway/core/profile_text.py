"""A site profile as people write it: YAML or JSON text → document, and every mistake with the line it stands at.

Aliases, duplicate keys and deep nesting are refused before anything is built: a name that is given twice would
silently lose one of its meanings, and a few lines of aliases can stand for gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

import hl7v2

TEXT_CHARACTERS_MAX: Final = 65_536
DEPTH_MAX: Final = 8
MISTAKES_MAX: Final = 100

_Place = tuple[str, ...]


class TextMistake(NamedTuple):
    """What is wrong. `line` counts from 1 (None where it is not known), `place` are keys with points between them."""

    line: int | None
    place: str
    detail: str

    @property
    def text(self) -> str:
        """For people."""
        where = [f"line {self.line}" if self.line is not None else "", self.place]
        return ": ".join([", ".join(one for one in where if one) or "the profile", self.detail])


class ProfileText(NamedTuple):
    """A text that was read: its document, and what is wrong with it."""

    document: Mapping[str, Any]
    mistakes: tuple[TextMistake, ...]


class _RefusedError(Exception):
    """YAML that is not taken."""

    def __init__(self, event: yaml.Event, detail: str) -> None:
        super().__init__(detail)
        self.line = event.start_mark.line + 1 if event.start_mark is not None else None


def read_profile_text(text: str) -> ProfileText:
    """The document of a text; never raises. With mistakes it is not to be used."""
    lines: dict[_Place, int] = {}
    mistakes: list[TextMistake] = []
    try:
        document = _document(text, lines, mistakes)
    except _RefusedError as error:
        return ProfileText({}, (TextMistake(error.line, "", str(error)),))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        return ProfileText({}, (TextMistake(line, "", f"neither YAML nor JSON: {error.problem or error.context}"),))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return ProfileText({}, (TextMistake(None, "", f"neither YAML nor JSON: {type(error).__name__}"),))
    if not mistakes:
        for place, detail in hl7v2.profile_mistakes(document):
            mistakes.append(TextMistake(_line(lines, place), ".".join(place), detail))
    if mistakes or not isinstance(document, Mapping):
        return ProfileText({}, tuple(mistakes[:MISTAKES_MAX]))
    return ProfileText(document, ())


def written(document: Mapping[str, Any]) -> str:
    """A document as YAML text, which `read_profile_text` reads as the same."""
    plain = dict(document)
    text = str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))
    # Rare characters (U+0085) are written as they are and read as line ends: then everything is escaped.
    return text if yaml.safe_load(text) == plain else str(yaml.safe_dump(plain, sort_keys=False, width=100))


def _document(text: str, lines: dict[_Place, int], mistakes: list[TextMistake]) -> Any:
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except ValueError:
            document = None  # YAML's flow style begins so, too
        try:
            return _composed(text.replace("\t", " "), lines, mistakes)
        except yaml.YAMLError:
            if document is None:
                raise
            return document  # JSON that is no YAML (escaped slashes and the like): then without lines
    return _composed(text, lines, mistakes)


def _composed(text: str, lines: dict[_Place, int], mistakes: list[TextMistake]) -> Any:
    _check_events(text)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        mistakes.append(TextMistake(1, "", "there is nothing in it"))
        return {}
    return _value(node, (), lines, mistakes)


def _check_events(text: str) -> None:
    """Raises _RefusedError for what is not taken."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(event, "aliases are not taken: write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise _RefusedError(event, f"nested deeper than {DEPTH_MAX}")


def _value(node: yaml.Node, place: _Place, lines: dict[_Place, int], mistakes: list[TextMistake]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            below = (*place, str(key))
            line = key_node.start_mark.line + 1
            if not isinstance(key, (str, int)):
                mistakes.append(TextMistake(line, ".".join(below), "expected a name or a number"))
                continue
            if key in found:
                mistakes.append(TextMistake(line, ".".join(below), f"it stands there twice, first at {lines[below]}"))
                continue
            lines[below] = line
            found[key] = _value(value_node, below, lines, mistakes)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, (*place, str(index)), lines, mistakes) for index, one in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    try:
        found = yaml.SafeLoader("").construct_object(node, deep=True)
    except ValueError:  # a date that is none
        return str(node.value)
    # What YAML makes of `2026-03-01` or of `!!binary` is no value that a profile has: its text is told as wrong.
    return found if found is None or isinstance(found, (str, int, float, bool)) else str(node.value)


def _line(lines: Mapping[_Place, int], place: _Place) -> int | None:
    """The line of the place, or of what it lies in."""
    for length in range(len(place), -1, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None
