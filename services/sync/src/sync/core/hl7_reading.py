"""Reading segments of HL7 v2 messages: what every mapping of a message to records needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from sync.core.rejection import Rejection

FIELD_MISSING: Final = "hl7.field-missing"
AUTHORITY_UNMAPPED: Final = "hl7.authority-unmapped"


class Segment(Protocol):
    """One segment; numbers as the standard counts them, texts decoded and unescaped."""

    def text(self, field: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        """A value, "" when it is absent, empty or null."""

    def is_null(self, field: int) -> bool:
        """Whether the whole field is `""`."""

    def repetitions(self, field: int) -> int:
        """How many repetitions it has; 0 when it is absent or empty."""


class Message(Protocol):
    """A parsed message."""

    def segments(self, name: str) -> Sequence[Segment]:
        """Its segments of a name, in order."""


ReadTime = Callable[[str], datetime | None]
"""HL7 TS or DTM text → an aware datetime with the source's offset, None when it is none (or has no time of day)."""


class RejectedError(Exception):
    """What a message says cannot be taken."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.code)
        self.rejection = rejection


def first(message: Message, name: str, number: int, component: int = 1) -> str:
    """A value of the first segment of a name, "" when there is none."""
    found = message.segments(name)
    return found[0].text(number, component) if found else ""


def concept(segment: Segment, number: int) -> dict[str, Any]:
    """CE or CWE: code and text; the name of its coding system is no URI, so it is not passed on (§2.A.11)."""
    code, text = segment.text(number, 1), segment.text(number, 2)
    return present(coding=[present(code=code, display=text)]) if code else present(text=text)


def present(**values: Any) -> dict[str, Any]:
    """The values that are there: without None and what is empty."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
