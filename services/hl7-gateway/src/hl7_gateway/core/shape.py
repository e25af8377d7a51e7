"""What follows from a message's header without MSH-7, MSH-10 and MSH-13: decided once per sender, not per message.

A sender's headers differ in their time, control id and sequence number only. Whose messages they are, whether their
type is taken and what is answered is therefore worked out for the first one and kept under the rest of the header;
for the others the acknowledgement is a template that is filled in. A header that is out of the ordinary (other line
ends, a control id with delimiters or beyond ASCII) is worked out each time.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import hl7v2
from hl7_gateway.core.acknowledgment import Outcome
from hl7_gateway.core.answer import Answer, answer
from hl7_gateway.core.message import Header, MessageState, acknowledgment_id, read_header
from hl7_gateway.core.reception import DEFAULT, Reception
from hl7_gateway.core.rejection import Rejection
from hl7_gateway.core.senders import InboundChannel

DUPLICATE_KEY_BYTES: Final = 16

# MSH-n is fields[n - 1]: MSH-1 is the separator itself.
_TIMESTAMP, _CONTROL_ID, _SEQUENCE_NUMBER = 6, 9, 12
# A control id that is written and read as it is whatever the delimiters and the character set: see `_ORDINARY`.
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,199}").fullmatch
_ORDINARY: Final = re.compile(rb"[|^~\\&#!$%*+,;=?@/]*").fullmatch
# In the place of what differs. No header holds them by chance; one that holds them by intent is not kept.
_SOME_ID: Final = "msg_00000sample0control0number0"
_SOME_TIME: Final = datetime(1901, 2, 3, 4, 5, 6, tzinfo=UTC)
_SOME_CONTROL_ID: Final = "SAMPLE-7f3a-CONTROL-e19c-ID"
_CONTROL_MARK, _TIME_MARK = _SOME_CONTROL_ID.encode(), b"19010203040506"


class HeaderParts(NamedTuple):
    """A header taken apart: the part that stays, and the control id."""

    key: bytes
    control_id: bytes


def header_parts(body: bytes) -> HeaderParts | None:
    """None when the header is out of the ordinary."""
    separator = body[3:4]
    try:
        fields = body[: body.find(b"\r")].split(separator)
        control_id = fields[_CONTROL_ID]
        fields[_TIMESTAMP] = fields[_CONTROL_ID] = b""
        if len(fields) > _SEQUENCE_NUMBER:
            fields[_SEQUENCE_NUMBER] = b""
    except (IndexError, ValueError):  # too short; no separator at all
        return None
    if _PLAIN(control_id) is None:
        return None
    return HeaderParts(separator.join(fields), control_id)


@dataclass(frozen=True, slots=True)
class Template:
    """An answer with gaps: `text` is filled with `gaps`, positions in (time, first id, second id, control id)."""

    text: bytes
    gaps: tuple[int, ...]
    codes: tuple[str, ...]

    def fill(self, message_id: str, time: bytes, control_id: bytes) -> Answer:
        """The frames. `time` is 14 digits in UTC."""
        first = acknowledgment_id(message_id).encode()
        values = (time, first, b"A" + first[1:], control_id)
        return Answer(self.text % tuple([values[gap] for gap in self.gaps]), self.codes)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What is known of every message with such a header. `accepted` is None when answers are composed each time."""

    channel: InboundChannel
    application: str
    facility: str
    rejection: Rejection | None
    hasher: Any
    accepted: Template | None

    @property
    def outcome(self) -> Outcome:
        """What the sender is told once the message is stored."""
        return Outcome.ACCEPTED if self.rejection is None else self.rejection.outcome

    @property
    def state(self) -> MessageState:
        """What the message is stored as."""
        return MessageState.RECEIVED if self.rejection is None else MessageState.REJECTED

    def duplicate_key(self, body: bytes) -> bytes:
        """16 bytes (SHA-256, cut) that are the same for the same message of the same sender on the same channel.

        `body` is what makes a message the same: all of it, or by another rule its control id.

        MSH-10 alone is not unique in the field (counters restart, systems are restored), so the whole body counts. The
        state counts too: a rejected message that is sent again once its type is taken is a new one.
        """
        hasher = self.hasher.copy()
        hasher.update(body)
        return bytes(hasher.digest()[:DUPLICATE_KEY_BYTES])


def shape_of(
    message: hl7v2.Message,
    header: Header,
    channel: InboundChannel,
    rejection: Rejection | None,
    reception: Reception = DEFAULT,
) -> Shape:
    """The shape of a message's header."""
    state = MessageState.RECEIVED if rejection is None else MessageState.REJECTED
    place = (channel.tenant, channel.integration_id, channel.channel, state.value, header.application, header.facility)
    hasher = hashlib.sha256("\x1f".join(place).encode() + b"\x1f")
    outcome = Outcome.ACCEPTED if rejection is None else rejection.outcome
    template = _template(message, outcome, rejection, reception)
    return Shape(channel, header.application, header.facility, rejection, hasher, template)


def time_text(instant: datetime) -> bytes:
    """What `Template.fill` wants: the instant in UTC to the second, `YYYYMMDDHHMMSS`."""
    return instant.astimezone(UTC).strftime("%Y%m%d%H%M%S").encode()


def _template(
    message: hl7v2.Message, outcome: Outcome, rejection: Rejection | None, reception: Reception
) -> Template | None:
    """The answer with gaps, None when it cannot be told where they are."""
    line = bytes(message).partition(b"\r")[0]
    separator = line[3:4]
    fields = line.split(separator)
    if len(fields) <= _CONTROL_ID or _ORDINARY(separator + fields[1]) is None:
        return None
    fields[_CONTROL_ID] = _CONTROL_MARK
    try:
        sample = reception.parse(separator.join(fields) + b"\r")
    except hl7v2.ParseError:
        return None
    given = answer(
        sample, reception.header(read_header(sample)), outcome, rejection, message_id=_SOME_ID, now=_SOME_TIME
    )
    first = acknowledgment_id(_SOME_ID).encode()
    marks = {_TIME_MARK: 0, first: 1, b"A" + first[1:]: 2, _CONTROL_MARK: 3}
    pieces = re.split(b"(" + b"|".join(map(re.escape, sorted(marks, key=len, reverse=True))) + b")", given.frames)
    gaps = tuple(marks[piece] for piece in pieces[1::2])
    if sorted(gaps) != sorted([*([0, 1, 3] if given.codes else []), *([0, 2, 3] if len(given.codes) > 1 else [])]):
        return None
    text = b"".join(b"%b" if index % 2 else piece.replace(b"%", b"%%") for index, piece in enumerate(pieces))
    return Template(text, gaps, given.codes)
