"""`hl7v2` messages in the form that the mapping reads, and their times in the facility's zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import hl7v2
from hl7v2.timestamp import parse_timestamp
from sync.core.hl7_reading import Message, ReadTime, Segment


@dataclass(frozen=True, slots=True)
class ParsedSegment:
    """`Segment` over hl7v2."""

    message: hl7v2.Message
    place: str

    def text(self, field: int, component: int = 1, *, repetition: int = 1, subcomponent: int = 1) -> str:
        return self.message[f"{self.place}-{field}[{repetition}].{component}.{subcomponent}"].strip()

    def is_null(self, field: int) -> bool:
        return self.message.field(f"{self.place}-{field}").state is hl7v2.FieldState.NULL

    def repetitions(self, field: int) -> int:
        return self.message.repetitions(f"{self.place}-{field}")


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """`Message` over hl7v2."""

    message: hl7v2.Message

    def segments(self, name: str) -> Sequence[Segment]:
        count = len(self.message.segments(name))
        return [ParsedSegment(self.message, f"{name}[{number}]") for number in range(1, count + 1)]


def parse(body: bytes, encoding: str | None = None) -> Message:
    """`encoding`, a value of MSH-18, counts where the message says none. Raises hl7v2.ParseError for no usable MSH."""
    return ParsedMessage(hl7v2.parse_assuming(body, encoding))


def time_reader(zone: ZoneInfo) -> ReadTime:
    """Reads HL7 times; those without an offset are local to the zone. A mere date is no time, and a local time that a
    clock change skips or repeats says no instant."""

    def read(text: str) -> datetime | None:
        stamp = parse_timestamp(text, zone) if text else None
        if stamp is None or stamp.note is not None or stamp.precision in {"year", "month", "day"}:
            return None
        if stamp.offset is None:
            return stamp.instant.astimezone(zone)
        sign = -1 if stamp.offset[0] == "-" else 1
        hours, minutes = int(stamp.offset[1:3]), int(stamp.offset[4:6])
        return stamp.instant.astimezone(timezone(sign * timedelta(hours=hours, minutes=minutes)))

    return read
