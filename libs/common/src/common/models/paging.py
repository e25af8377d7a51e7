"""Cursor paging: the next page is asked for with an opaque text that holds the sort values of the last row."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from common.models.errors import SuiteError

T = TypeVar("T")

PAGE_ITEMS_DEFAULT: Final = 50
PAGE_ITEMS_MAX: Final = 500
_CURSOR_CHARACTERS_MAX: Final = 512
_INTEGER_MAX: Final = 2**63 - 1

CursorValue = str | int | float | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items of one page and the cursor of the next, None at the end."""

    items: Sequence[T]
    next: str | None


def encode_cursor(values: Sequence[CursorValue]) -> str:
    """The cursor that continues after a row with these sort values."""
    text = json.dumps(list(values), separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(text: str, kinds: Sequence[type | tuple[type, ...]]) -> list[Any]:
    """The sort values of a cursor, checked against the kinds expected; raises SuiteError `request.bad-cursor`."""
    if len(text) > _CURSOR_CHARACTERS_MAX:
        raise SuiteError("request.bad-cursor")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = json.loads(decoded.decode())
    except (ValueError, binascii.Error, RecursionError) as error:
        raise SuiteError("request.bad-cursor") from error
    if not isinstance(values, list) or len(values) != len(kinds):
        raise SuiteError("request.bad-cursor")
    if any(isinstance(value, bool) or not isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise SuiteError("request.bad-cursor")
    if not all(map(_can_be_compared, values)):
        raise SuiteError("request.bad-cursor")
    return values


def _can_be_compared(value: CursorValue) -> bool:
    """Whether a database takes the value: one made up by a caller must not fail the query."""
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -_INTEGER_MAX <= value <= _INTEGER_MAX
    return value is None or math.isfinite(value)
