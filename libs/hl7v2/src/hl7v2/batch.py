"""Batches: files of many messages, with or without file and batch headers (HL7 v2.5.1 §2.10.3).

    FHS  file header        BHS  batch header        MSH …  messages        BTS  batch trailer        FTS  file trailer

`split_batch` cuts a file into pieces that together are the file, byte for byte; what deviates is a finding, never an
exception: one message that is none does not take the others with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hl7v2 import charset
from hl7v2.acknowledgment import Finding
from hl7v2.escape import DEFAULT, Delimiters, escape
from hl7v2.message import Message
from hl7v2.parser import ParseError, parse, parse_header

if TYPE_CHECKING:
    import re

_REFERENCE: Final = "HL7 v2.5.1 §2.10.3"
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_WIDE: Final = {
    b"F\x00H\x00S\x00": "utf-16-le", b"\x00F\x00H\x00S": "utf-16-be",
    b"B\x00H\x00S\x00": "utf-16-le", b"\x00B\x00H\x00S": "utf-16-be",
    b"M\x00S\x00H\x00": "utf-16-le", b"\x00M\x00S\x00H": "utf-16-be",
}  # fmt: skip
_CODES: Final = {"sequence": "100", "count": "102"}


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: its header and trailer (b"" where there is none) and its messages, all as they stand in the file."""

    header: bytes
    messages: tuple[bytes, ...]
    trailer: bytes

    def __bytes__(self) -> bytes:
        return b"".join((self.header, *self.messages, self.trailer))


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file: what lies before its first segment, its header, batches, trailer, and what is wrong with it.

    Findings have paths into the file (`FTS-1`, `BTS[2]-1`, `MSH[3]`) and codes of HL7 table 0357: 100 where a segment
    is out of place or missing, 102 where a count is not the number of what was counted.
    """

    lead: bytes
    header: bytes
    batches: tuple[Batch, ...]
    trailer: bytes
    findings: tuple[Finding, ...]

    @property
    def messages(self) -> tuple[bytes, ...]:
        """All messages of all batches, in order."""
        return tuple(message for batch in self.batches for message in batch.messages)

    def parsed(self, **tolerances: bool) -> Iterator[Message | ParseError]:
        """Each message parsed with these tolerances, or why it is none."""
        for message in self.messages:
            try:
                yield parse(message, **tolerances)
            except ParseError as error:
                yield error

    def __bytes__(self) -> bytes:
        return b"".join((self.lead, self.header, *map(bytes, self.batches), self.trailer))


def split_batch(data: bytes) -> BatchFile:
    """The messages of a file: of batches, of messages one behind the other, or of one. `bytes` of it is the file again.

    Never raises. What stands between the headers but belongs to nothing is a piece that `parse` refuses, and a finding.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    body = data[len(mark) :]
    codec = _wide_codec(data, mark)
    if codec is None:
        return _Reading(mark).read(body)
    if not charset.decodes(body, codec):  # cut as text it would not be the same bytes again
        return BatchFile(mark, b"", (Batch(b"", (body,), b""),), b"", ())
    file = _Reading(b"").read(body.decode(codec).encode())

    def back(piece: bytes) -> bytes:
        return piece.decode().encode(codec)

    batches = tuple(Batch(back(one.header), tuple(map(back, one.messages)), back(one.trailer)) for one in file.batches)
    return BatchFile(mark + back(file.lead), back(file.header), batches, back(file.trailer), file.findings)


def compose_batch(
    messages: Sequence[Message | bytes],
    *,
    now: datetime,
    control_id: str,
    delimiters: Delimiters = DEFAULT,
    sender: tuple[str, str] = ("", ""),
    receiver: tuple[str, str] = ("", ""),
    comment: str = "",
    codec: str = "utf-8",
) -> bytes:
    """A file of one batch (FHS, BHS, the messages as they are, BTS, FTS) with the counts of both trailers.

    `sender` and `receiver` are application and facility; `control_id` is that of batch (BHS-11) and file (FHS-11).
    Raises ValueError when a message begins with no MSH, when `now` has no zone, or a text can not be written.
    """
    if now.tzinfo is None:
        raise ValueError("an instant needs a zone")
    at = now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    texts = [escape(text, delimiters) for text in (*sender, *receiver)]
    written_comment, written_id = escape(comment, delimiters), escape(control_id, delimiters)
    head = [delimiters.encoding_characters, *texts, at, "", "", written_comment, written_id]
    mark = delimiters.field

    def segment(*fields: str) -> bytes:
        return charset.encode(mark.join(fields).rstrip(mark) + "\r", codec)

    written = []
    for message in messages:
        body = bytes(message)
        if not body.startswith(b"MSH"):  # in UTF-16 or behind a mark it would be lost for whoever reads the file
            raise ValueError("a message of a batch begins with the bytes MSH")
        written.append(body if body.endswith((b"\r", b"\n")) else body + b"\r")
    return b"".join(
        (segment("FHS", *head), segment("BHS", *head), *written, segment("BTS", str(len(written))), segment("FTS", "1"))
    )


class _Reading:
    """Takes a file apart, segment group by segment group."""

    def __init__(self, lead: bytes) -> None:
        self._lead = lead
        self._header = b""
        self._trailer = b""
        self._batches: list[Batch] = []
        self._messages: list[bytes] = []
        self._batch_header = b""
        self._is_open = False
        self._is_ended = False
        self._count_of_batches = 0
        self._findings: list[Finding] = []

    def read(self, body: bytes) -> BatchFile:
        starts = [match.start(1) for match in _starts().finditer(body)]
        lead = body[: starts[0]] if starts else body
        if lead.strip(b"\r\n\x1a "):  # an empty line in front is no deviation that somebody must be told of
            self._messages.append(lead)
            self._found("MSH[1]", "sequence", "a segment FHS, BHS or MSH", "something else")
        else:
            self._lead += lead
        for start, end in pairwise([*starts, len(body)]):
            self._group(body[start:end])
        self._close(b"")
        if self._header and not self._is_ended:
            self._found("FTS", "sequence", "a file trailer", "the end of the file")
        return BatchFile(self._lead, self._header, tuple(self._batches), self._trailer, tuple(self._findings))

    def _group(self, raw: bytes) -> None:
        name = raw[:3]
        if self._trailer:  # it was not the end: it stays where it stands
            self._found(name.decode(), "sequence", "nothing behind the file trailer", "a segment")
            self._batches.append(Batch(b"", (), self._trailer))
            self._trailer = b""
        if name == b"MSH":
            self._messages.append(raw)
        elif name == b"FHS":
            self._file_header(raw)
        elif name == b"BHS":
            self._close(b"")
            self._batch_header = raw
            self._is_open = True
        elif name == b"BTS":
            self._close(raw)
        else:
            self._file_trailer(raw)

    def _file_header(self, raw: bytes) -> None:
        if self._header or self._batches or self._messages or self._is_open:
            # A second file in one: its header is kept where it stands, in front of the batch that follows it.
            self._close(b"")
            self._found("FHS", "sequence", "one file header, at the beginning", "another")
            self._batch_header = raw
            return
        self._header = raw

    def _file_trailer(self, raw: bytes) -> None:
        self._close(b"")
        if not self._header:
            self._found("FHS", "sequence", "a file header", "a file trailer alone")
        self._trailer = raw
        self._is_ended = True
        self._count("FTS-1", raw, self._count_of_batches)

    def _close(self, trailer: bytes) -> None:
        """End the batch that is open, or the messages that belong to none."""
        place = f"[{len(self._batches) + 1}]" if self._batches else ""
        if trailer and not self._is_open:
            self._found(f"BHS{place}", "sequence", "a batch header", "a batch trailer alone")
        if self._is_open and not trailer:
            self._found(f"BTS{place}", "sequence", "a batch trailer", "the next segment")
        if trailer:
            self._count(f"BTS{place}-1", trailer, len(self._messages))
        if trailer or self._messages or self._batch_header:
            self._batches.append(Batch(self._batch_header, tuple(self._messages), trailer))
            self._count_of_batches += bool(self._batch_header or self._messages)
        self._messages, self._batch_header, self._is_open = [], b"", False

    def _count(self, path: str, trailer: bytes, number: int) -> None:
        """Field 1 of a trailer is how many there are; it may be left out."""
        said = trailer.rstrip(b"\r\n").split(trailer[3:4] or b"|")
        if len(said) > 1 and said[1] and said[1].strip() != str(number).encode():
            kind = "another number" if said[1].strip().isdigit() else "no number"
            self._found(path, "count", str(number), kind)

    def _found(self, path: str, kind: str, expected: str, found: str) -> None:
        self._findings.append(Finding(path, _CODES[kind], "error", expected, found, _REFERENCE))


def header_of(raw: bytes) -> Message:
    """A batch's or file's header to read: `header_of(batch.header)["BHS-11"]`. Raises ParseError when it is none."""
    return parse_header(raw)


@lru_cache(maxsize=1)
def _starts() -> re.Pattern[bytes]:
    """Where a header, a message or a trailer begins: at the beginning of a line."""
    import re

    return re.compile(rb"(?:\A|(?<=[\r\n]))((?:MSH|FHS|BHS)[^\w\s]|(?:BTS|FTS)(?=[^\w]|\Z))")


def _wide_codec(data: bytes, mark: bytes) -> str | None:
    if mark in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"
    return next((codec for start, codec in _WIDE.items() if data.startswith(start)), None)
