"""Primitive data types: what a value may be, as patterns over bytes, and what to call one that is not.

Values are named by class only (`letters(5)`, `date with an impossible month`), never shown, nor parts of them: findings
go into logs and replies, and day and month of a birth date are half of what identifies somebody.
Patterns are those of HL7 v2.5.1 chapter 2.A; they take the default delimiters as given (a value that uses others is
checked once it is taken out of its place).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

CODED: Final = frozenset({"ID", "IS"})
"""Primitive types whose values come from a table (§2.A.36, §2.A.37)."""
CODED_COMPOSITES: Final = frozenset({"CE", "CWE", "CNE", "CF"})
"""Composite types whose first component comes from the field's table, unless the third names another system."""
NULL: Final = '""'

_LEAP: Final = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)0229"
_DAY: Final = (
    "(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)"
    "|02(?:0[1-9]|1[0-9]|2[0-8])"
)  # fmt: skip
_DATE: Final = f"(?!0000)(?:[0-9]{{4}}(?:{_DAY})|{_LEAP})"
# What may be left out is a branch with nothing in it: that is much faster than a repetition of nought or one.
_SHORT_DATE: Final = "(?!0000)[0-9]{4}(?:0[1-9]|1[0-2]|)"
_TIME: Final = r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:[0-5][0-9](?:\.[0-9]{1,4}|)|)|)"
_OFFSET: Final = "(?:[+-](?:0[0-9]|1[0-4])[0-5][0-9]|)"
_DATE_TIME: Final = f"(?:{_DATE}(?:{_TIME}|)|{_SHORT_DATE}){_OFFSET}"

CONSTRAINED: Final[Mapping[str, str]] = {
    "DT": f"(?:{_DATE}|{_SHORT_DATE})",
    "TM": _TIME + _OFFSET,
    "DTM": _DATE_TIME,
    "NM": r"(?:[+-]|)(?:[0-9]++(?:\.[0-9]*+|)|\.[0-9]++)",
    "SI": "[0-9]{1,4}",
}
"""Primitive type → pattern of its values. The types that are not here are text."""
LENGTHS: Final[Mapping[str, int]] = {"DT": 8, "TM": 16, "DTM": 24, "NM": 1_000_000, "SI": 4}
"""How long a valid value of a type can be, in characters."""
EXPECTED: Final[Mapping[str, str]] = {
    "DT": "a date, YYYY[MM[DD]]",
    "TM": "a time, HH[MM[SS[.SSSS]]][+/-ZZZZ]",
    "DTM": "a date and time, YYYY[MM[DD[HH[MM[SS[.SSSS]]]]]][+/-ZZZZ]",
    "NM": "a number",
    "SI": "a number from 0 to 9999",
}
_VALID: Final = {name: re.compile(pattern) for name, pattern in CONSTRAINED.items()}
_TOO_PRECISE: Final = re.compile(r"(?P<kept>[0-9]+\.[0-9]{4})[0-9]+(?P<offset>[+-][0-9]{4})?")
_PARTS: Final = re.compile(
    r"(?:(?P<year>[0-9]{4})(?P<month>[0-9]{2})?(?P<day>[0-9]{2})?)?"
    r"(?:(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})?(?P<second>[0-9]{2})?(?:\.[0-9]{1,4})?)?(?P<offset>[+-][0-9]{4})?"
)
_TIME_PARTS: Final = re.compile(
    r"(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})?(?P<second>[0-9]{2})?(?:\.[0-9]{1,4})?(?P<offset>[+-][0-9]{4})?"
)


def is_valid(kind: str, text: str) -> bool:
    """Whether a text is a value of a primitive type."""
    pattern = _VALID.get(kind)
    return pattern is None or pattern.fullmatch(text) is not None


def only_too_precise(kind: str, text: str) -> bool:
    """Whether a time would be valid with its fraction cut to the four digits that the standard has."""
    match = _TOO_PRECISE.fullmatch(text) if kind in {"DTM", "TM"} else None
    return match is not None and is_valid(kind, match["kept"] + (match["offset"] or ""))


def value_class(text: str) -> str:
    """What kind of value a text is, with its length in characters: `letters(5)`, `digits(8)`, `empty`, `null`."""
    if not text:
        return "empty"
    if text == NULL:
        return "null"
    stripped = text.strip()
    if not stripped:
        return f"spaces({len(text)})"
    kinds = [
        name for name, has in (("letters", any(map(str.isalpha, text))), ("digits", any(map(str.isdigit, text)))) if has
    ]
    if not all(character.isalnum() for character in stripped):
        return f"text({len(text)})"
    return f"{' and '.join(kinds) or 'text'}({len(text)})"


def invalid_class(kind: str, text: str) -> str:
    """What is wrong with a value that is none of its type: which part of a date or time, else the class of value."""
    if kind in {"DT", "DTM"} and (match := _PARTS.fullmatch(text)) and match["year"]:
        return _wrong_part("date", match) or value_class(text)
    if kind == "TM" and (match := _TIME_PARTS.fullmatch(text)):
        return _wrong_part("time", match) or value_class(text)
    return value_class(text)


def _wrong_part(name: str, match: re.Match[str]) -> str:
    parts = match.groupdict()
    if parts.get("year") == "0000":
        return f"{name} with an impossible year"
    if (month := parts.get("month")) and not 1 <= int(month) <= 12:
        return f"{name} with an impossible month"
    if day := parts.get("day"):
        if not 1 <= int(day) <= 31:
            return f"{name} with an impossible day"
        if re.fullmatch(_DATE, parts["year"] + (month or "") + day) is None:
            return f"{name} with a day that its month does not have"
    for part, highest in (("hour", 23), ("minute", 59), ("second", 59)):
        if (number := parts.get(part)) and int(number) > highest:
            return f"{name} with an impossible {part}"
    if (offset := parts.get("offset")) and re.fullmatch(_OFFSET, offset) is None:
        return f"{name} with an impossible offset"
    return ""


# ---- Patterns over bytes, for the default delimiters

_DELIMITERS: Final = re.compile(r"[|^~&\\]")
TEXT: Final = "[^^~&]"
"""A character of a value in its place."""


def one_of(values: Iterable[str]) -> str:
    """A pattern of exactly these texts, the longest that fits first; as a tree, so that many cost little."""
    tree: dict[str, dict[str, object]] = {}
    for value in values:
        if _DELIMITERS.search(value):
            continue  # in a message it is written with an escape sequence
        node: dict[str, object] = tree  # type: ignore[assignment]
        for character in value:
            node = node.setdefault(character, {})  # type: ignore[assignment]
        node[""] = {}
    return _branches(tree)


def _branches(node: dict[str, dict[str, object]]) -> str:
    ends = "" in node
    branches = [
        re.escape(character) + _branches(below)  # type: ignore[arg-type]
        for character, below in sorted(node.items())
        if character
    ]
    if not branches:
        return ""
    if len(branches) == 1 and not ends:
        return branches[0]
    return f"(?:{'|'.join(branches)}{'|' if ends else ''})"
