"""Dates of birth as they are compared: eight, six or four digits."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

# What programs write when they do not know.
_PLACEHOLDERS: Final = frozenset({"19000101", "18000101", "19010101", "11111111", "99991231", "17530101", "00010101"})
_YEARS_REFUSED: Final = frozenset({"0000", "9999"})


def birth_digits(text: str | None) -> str:
    """`1980-02-14` → 19800214, `1980-02` → 198002, `1980` → 1980; empty for anything else and for placeholders.

    Digits that are no date (31 February) stay: a slip of the pen is still a trace of the person.
    """
    digits = (text or "").replace("-", "")
    if len(digits) not in {4, 6, 8} or not (digits.isascii() and digits.isdigit()):
        return ""
    return "" if digits in _PLACEHOLDERS or digits[:4] in _YEARS_REFUSED else digits


def swapped(digits: str) -> str:
    """The same date with day and month exchanged, empty when it has no day."""
    return digits[:4] + digits[6:] + digits[4:6] if len(digits) == 8 else ""


@lru_cache(65_536)
def one_slip(one: str, other: str) -> bool:
    """Whether two values of one length differ in one character, or in two neighbours that changed places."""
    if len(one) != len(other):
        return False
    at = [index for index in range(len(one)) if one[index] != other[index]]
    if len(at) == 1:
        return True
    return len(at) == 2 and at[1] == at[0] + 1 and one[at[0]] == other[at[1]] and one[at[1]] == other[at[0]]
