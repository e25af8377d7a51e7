"""MLLP framing, without I/O (HL7 v2.x Transport Specification: Minimal Lower Layer Protocol, release 1).

A frame is the start block 0x0B, the message, the end block 0x1C and a carriage return 0x0D. `Decoder` takes bytes as
they come and gives named events; nothing that a peer can send makes it raise. Which events come (not how junk is
counted out, nor the size of a frame that is too large) does not depend on the chunks.

Theory of operation. Outside a frame everything up to a start block is junk; junk that ends with an end block was a
frame whose start was lost. Inside, everything up to the end block is the message. A start block inside a frame means
that the end of the frame before was lost. A frame that grows over its limit is given up once, and its rest is skipped
up to its end block. How far was looked for an end and for a start is remembered, also when a start block throws away
what lies before it: a peer that sends nothing but start blocks costs no more than any other.

Tolerance `end_without_cr` (on by default): the carriage return behind the end block may be missing, or be a line feed,
where that can be told: before a start block, before a line feed, at the end of the stream. The frame then says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

START: Final = b"\x0b"
END: Final = b"\x1c\x0d"
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
END_WITHOUT_CR: Final = "end-without-cr"
_START_CODE: Final = 0x0B
_END_CODE: Final = 0x1C
_CARRIAGE_RETURN: Final = 0x0D
_LINE_FEED: Final = 0x0A


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame; `body` is the message without its framing, `tolerated` what was no more than nearly right."""

    body: bytes
    tolerated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JunkBeforeStart:
    """Bytes outside any frame: how many."""

    count: int


@dataclass(frozen=True, slots=True)
class MissingStart:
    """Bytes outside any frame ended with an end block: a frame whose start was lost.

    `size_bytes` are those that no `JunkBeforeStart` has told of yet, its end block included.
    """

    size_bytes: int


@dataclass(frozen=True, slots=True)
class MissingEnd:
    """A frame began inside another, whose end block never came; `size_bytes` of that one are lost."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class FrameTooLarge:
    """A frame over the limit: its rest is skipped. `size` is in bytes, as many as were seen until it was over."""

    size: int


@dataclass(frozen=True, slots=True)
class EndInsideFrame:
    """The stream ended inside a frame; `size_bytes` of it are lost."""

    size_bytes: int


Event = Frame | JunkBeforeStart | MissingStart | MissingEnd | FrameTooLarge | EndInsideFrame


def encode(body: bytes) -> bytes:
    """A frame around a message."""
    return b"".join((START, body, END))


class Decoder:
    """Frames out of a byte stream; linear in the bytes, whatever the chunks. `frame_bytes_max` bounds its memory."""

    __slots__ = (
        "_buffer", "_clean", "_end", "_end_without_cr", "_frame_bytes_max", "_has_junk", "_inside", "_junk_ends",
        "_scanned", "_skipping",
    )  # fmt: skip

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX, end_without_cr: bool = True) -> None:
        if frame_bytes_max < 1:
            raise ValueError("frame_bytes_max must be positive")
        self._frame_bytes_max = frame_bytes_max
        self._end_without_cr = end_without_cr
        self._buffer = bytearray()
        self._inside = False
        self._skipping = False
        self._end = -1  # where the next end block was found, so that it is looked for once
        self._scanned = 0  # bytes of the buffer in which no end block can begin any more
        self._clean = 0  # bytes of the buffer in which there is no start block
        self._has_junk = False  # whether there were bytes outside frames since the last frame or end block
        self._junk_ends = False  # whether the last of them may be the first half of an end block

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def receive_data(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        events: list[Event] = []
        if not self._inside and not self._buffer and data[:1] == START:
            position = self._whole_frames(data, events)
            data = data[position:]
        self._buffer += data
        while self._step(events):
            pass
        return events

    def receive_eof(self) -> list[Event]:
        """The events of the stream's end; the decoder is as new afterwards."""
        events: list[Event] = []
        size = len(self._buffer)
        if self._inside and not self._skipping:
            if self._end_without_cr and self._buffer.endswith(b"\x1c") and size - 1 <= self._frame_bytes_max:
                events.append(Frame(bytes(self._buffer[:-1]), (END_WITHOUT_CR,)))
            else:
                events.append(EndInsideFrame(size))
        self._drop(size)
        self._inside = self._skipping = self._has_junk = self._junk_ends = False
        return events

    def _whole_frames(self, data: bytes, events: list[Event]) -> int:
        """Frames that lie whole in what came, as nearly all do, without a copy; how many bytes they take."""
        position = 0
        while data[position : position + 1] == START:
            end = data.find(END, position + 1)
            body = data[position + 1 : end]
            if end < 0 or len(body) > self._frame_bytes_max or _START_CODE in body or _END_CODE in body:
                break
            events.append(Frame(body))
            position = end + len(END)
        return position

    def _step(self, events: list[Event]) -> bool:
        """One event's worth of progress; False when more bytes are needed."""
        return self._body(events) if self._inside else self._outside(events)

    def _outside(self, events: list[Event]) -> bool:
        if not self._buffer:
            return False
        start = self._buffer.find(_START_CODE)
        junk = len(self._buffer) if start < 0 else start
        self._tell_junk(bytes(self._buffer[:junk]), events)
        self._drop(junk + (start >= 0))
        self._inside = start >= 0
        if self._inside:
            self._has_junk = self._junk_ends = False
        return self._inside

    def _tell_junk(self, junk: bytes, events: list[Event]) -> None:
        """Bytes outside frames, in pieces that end with an end block, and the rest."""
        position = 0
        if self._junk_ends and junk[:1] == END[1:]:
            position = 1
            events.append(MissingStart(1) if self._has_junk else JunkBeforeStart(1))
            self._has_junk = False
        elif self._junk_ends and junk:
            self._has_junk = True
        while (end := junk.find(END, position)) >= 0:
            size = end + len(END) - position
            events.append(MissingStart(size) if self._has_junk or end > position else JunkBeforeStart(size))
            self._has_junk = False
            position = end + len(END)
        rest = len(junk) - position
        if rest:
            events.append(JunkBeforeStart(rest))
            self._junk_ends = junk[-1] == _END_CODE
            self._has_junk = self._has_junk or rest > self._junk_ends
        elif junk:
            self._junk_ends = False

    def _body(self, events: list[Event]) -> bool:
        size = len(self._buffer)
        if self._end < 0:
            self._find_end()
        limit = self._end if self._end >= 0 else size
        again = self._buffer.find(_START_CODE, self._clean, limit)
        if again >= 0:  # 0x0B is no character of a message: the end of this frame was lost
            if not self._skipping:
                events.append(MissingEnd(again) if again <= self._frame_bytes_max else FrameTooLarge(again))
            self._drop(again + 1)
            self._skipping = False
            return True
        self._clean = limit
        if self._end < 0:
            return self._wait(events)
        after = self._buffer[limit + 1]
        if not self._skipping:
            tolerated = () if after == _CARRIAGE_RETURN else (END_WITHOUT_CR,)
            within = limit <= self._frame_bytes_max
            events.append(Frame(bytes(self._buffer[:limit]), tolerated) if within else FrameTooLarge(limit))
        self._drop(limit + 1 + (after != _START_CODE))  # the start block behind a bare end is that of the next frame
        self._inside = self._skipping = False
        return True

    def _find_end(self) -> None:
        """Look for the end block, from where it was not looked for yet."""
        buffer = self._buffer
        while True:
            found = buffer.find(_END_CODE, self._scanned)
            if found < 0 or found + 1 == len(buffer):  # the byte behind it tells, and has not come yet
                self._scanned = len(buffer) if found < 0 else found
                return
            after = buffer[found + 1]
            if after == _CARRIAGE_RETURN or (self._end_without_cr and after in {_START_CODE, _LINE_FEED}):
                self._end = found
                return
            self._scanned = found + 1

    def _wait(self, events: list[Event]) -> bool:
        """No end block yet: give up a frame that is too large."""
        size = len(self._buffer)
        if size > self._frame_bytes_max + 1 and not self._skipping:
            events.append(FrameTooLarge(size))
            self._skipping = True
        if self._skipping:
            self._drop(max(0, size - 1))
        return False

    def _drop(self, count: int) -> None:
        """Throw away the first bytes; what is known about the others stays known."""
        del self._buffer[:count]
        self._end = max(-1, self._end - count)
        self._scanned = max(0, self._scanned - count)
        self._clean = max(0, self._clean - count)
