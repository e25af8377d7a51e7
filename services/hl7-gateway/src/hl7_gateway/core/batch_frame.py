"""Batches that come in one MLLP frame, and their acknowledgement (HL7 v2.5.1 §2.10.3, §2.10.3.3, §2.15.2 BHS).

A batch is taken as a whole: every message of it is stored in one transaction, or none. It is answered by a batch of
the acknowledgements of its messages; BHS-12 (FHS-12) is the control id of the batch (file) it answers. Messages that
stand one behind the other in a frame without a batch header are taken together, too, and answered in frames of their
own: taken as one message, all but the first would be lost without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import hl7v2
from hl7v2 import mllp
from hl7v2.batch import Batch

MESSAGES_MAX: Final = 1_000
"""Of a batch: what one transaction stores."""
_HEADERS: Final = (b"FHS", b"BHS")
_UTF_8_MARK: Final = b"\xef\xbb\xbf"
_MARKED: Final = tuple(_UTF_8_MARK + name for name in _HEADERS)
_STARTS: Final = (*_HEADERS, *_MARKED)
_FIELDS: Final = 11


def is_batch(body: bytes) -> bool:
    """Whether a frame holds more than a message. A batch in UTF-16 is not told: its segments are no bytes."""
    return body.startswith(_STARTS) or body.find(b"\rMSH" + body[3:4], 8) >= 0


@dataclass(frozen=True, slots=True)
class BatchFrame:
    """A frame's batches as they came. `problem`: why it is not taken at all, as a code of the catalogue."""

    file: hl7v2.BatchFile
    problem: str | None

    @property
    def messages(self) -> tuple[bytes, ...]:
        """All messages, in order."""
        return self.file.messages

    def answered(self, given: Sequence[bytes], *, time: bytes, control_id: bytes) -> bytes:
        """The frames that answer it; `given` are the frames that answer each message, in order.

        Nothing when no message wants an acknowledgement (enhanced mode); a batch without messages gets an empty one.
        """
        if not any(batch.header for batch in self.file.batches) and not self.file.header:
            return b"".join(given)
        if self.messages and not any(given):
            return b""
        left = list(given)
        written = []
        for batch in self.file.batches:
            mine, left = left[: len(batch.messages)], left[len(batch.messages) :]
            written.append(_batch(batch, mine, time, control_id))
        whole = b"".join(written)
        if self.file.header:
            trailer = b"FTS" + _separator(self.file.header) + str(len(written)).encode() + b"\r"
            whole = _header(self.file.header, time, control_id) + whole + trailer
        return mllp.encode(whole)


def read_batch(body: bytes) -> BatchFrame:
    """The batches of a frame; never raises."""
    file = hl7v2.split_batch(body)
    if len(file.messages) > MESSAGES_MAX:
        return BatchFrame(file, "hl7.batch-too-large")
    miscounted = any(finding.code == "102" for finding in file.findings)
    return BatchFrame(file, "hl7.batch-incomplete" if miscounted else None)


def bodies_in(frames: bytes) -> list[bytes]:
    """What lies in frames of ours."""
    decoder = mllp.Decoder(frame_bytes_max=max(1, len(frames)))
    return [event.body for event in decoder.receive_data(frames) if isinstance(event, mllp.Frame)]


def _batch(batch: Batch, given: Sequence[bytes], time: bytes, control_id: bytes) -> bytes:
    answers = [body for frames in given for body in bodies_in(frames)]
    ended = b"".join(body if body.endswith(b"\r") else body + b"\r" for body in answers)
    if not batch.header:
        return ended
    trailer = b"BTS" + _separator(batch.header) + str(len(answers)).encode() + b"\r"
    return _header(batch.header, time, control_id) + ended + trailer


def _separator(header: bytes) -> bytes:
    return header[3:4]


def _header(header: bytes, time: bytes, control_id: bytes) -> bytes:
    """BHS or FHS of the answer: sender and receiver swapped, field 11 ours, field 12 the other's field 11."""
    mark = _separator(header)
    line = header.splitlines()[0]
    fields = [*line.split(mark), *[b""] * _FIELDS]
    # Field n stands at n - 1: field 1 is the separator.
    application, facility, their_application, their_facility = fields[4], fields[5], fields[2], fields[3]
    head = [fields[0], fields[1], application, facility, their_application, their_facility, time + b"+0000"]
    written = [*head, b"", b"", b"", control_id, fields[10]]
    return mark.join(written).rstrip(mark) + b"\r"
