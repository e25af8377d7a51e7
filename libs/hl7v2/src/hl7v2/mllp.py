"""MLLP framing, without I/O (HL7 v2.x Transport Specification: Minimal Lower Layer Protocol, release 1).

A frame is the start block 0x0B, the message, the end block 0x1C and a carriage return 0x0D. `Decoder` takes bytes as
they come and gives named events; nothing that a peer can send makes it raise. Theory of operation: outside a frame
everything up to a start block is junk; inside, everything up to the end block is the message. A start block inside a
frame means that the end of the frame before was lost. A frame that grows over its limit is given up once, and its rest
is skipped up to its end block. How far was looked for an end and for a start is remembered, also when a start block
throws away what lies before it: a peer that sends nothing but start blocks costs no more than any other. Which events
come (not how junk is counted out, nor the size of a frame that is too large) does not depend on the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

START: Final = b"\x0b"
END: Final = b"\x1c\x0d"
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
_START_BYTE: Final = 0x0B


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame; `body` is the message without its framing."""

    body: bytes


@dataclass(frozen=True, slots=True)
class JunkBeforeStart:
    """Bytes outside any frame: how many."""

    count: int


@dataclass(frozen=True, slots=True)
class MissingEnd:
    """A frame began inside another, whose end block never came; `size_bytes` of that one are lost."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class FrameTooLarge:
    """A frame over the limit; `size` in bytes so far. The rest of it is skipped."""

    size: int


@dataclass(frozen=True, slots=True)
class EndInsideFrame:
    """The stream ended inside a frame; `size_bytes` of it are lost."""

    size_bytes: int


Event = Frame | JunkBeforeStart | MissingEnd | FrameTooLarge | EndInsideFrame


def encode(body: bytes) -> bytes:
    """A frame around a message."""
    return START + body + END


def is_one_frame(data: bytes, frame_bytes_max: int) -> bool:
    """Whether these bytes are one whole frame and nothing else, which needs no decoder that is between two frames."""
    return (
        data.startswith(START)
        and data.endswith(END)
        and data.find(END) == len(data) - 2
        and data.find(START, 1) < 0
        and len(data) - 3 <= frame_bytes_max
    )


class Decoder:
    """Frames out of a byte stream; linear in the bytes, whatever the chunks. `frame_bytes_max` bounds its memory."""

    __slots__ = ("_buffer", "_clean", "_end", "_frame_bytes_max", "_inside", "_scanned", "_skipping")

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        if frame_bytes_max < 1:
            raise ValueError("frame_bytes_max must be positive")
        self._frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._inside = False
        self._skipping = False
        self._end = -1  # where the next end block was found, so that it is looked for once
        self._scanned = 0  # bytes of the buffer in which no end block can begin any more
        self._clean = 0  # bytes of the buffer in which there is no start block

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    def receive_data(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order."""
        self._buffer += data
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def receive_eof(self) -> list[Event]:
        """The events of the stream's end; the decoder is as new afterwards."""
        events: list[Event] = []
        if self._inside and not self._skipping:
            events.append(EndInsideFrame(len(self._buffer)))
        elif not self._inside and self._buffer:
            events.append(JunkBeforeStart(len(self._buffer)))
        self._drop(len(self._buffer))
        self._inside = self._skipping = False
        return events

    def _step(self, events: list[Event]) -> bool:
        """One event's worth of progress; False when more bytes are needed."""
        return self._body(events) if self._inside else self._outside(events)

    def _outside(self, events: list[Event]) -> bool:
        if not self._buffer:
            return False
        start = self._buffer.find(_START_BYTE)
        junk = len(self._buffer) if start < 0 else start
        if junk:
            events.append(JunkBeforeStart(junk))
        self._drop(junk + (start >= 0))
        self._inside = start >= 0
        return self._inside

    def _body(self, events: list[Event]) -> bool:
        size = len(self._buffer)
        if self._end < 0:
            self._end = self._buffer.find(END, self._scanned)
            if self._end < 0:
                self._scanned = max(0, size - 1)  # the last byte may be the first half of an end block
        limit = self._end if self._end >= 0 else size
        again = self._buffer.find(_START_BYTE, self._clean, limit)
        if again >= 0:  # 0x0B is no character of a message: the end of this frame was lost
            if not self._skipping:
                events.append(MissingEnd(again) if again <= self._frame_bytes_max else FrameTooLarge(again))
            self._drop(again + 1)
            self._skipping = False
            return True
        self._clean = limit
        if self._end < 0:
            return self._wait(events)
        if not self._skipping:
            within = limit <= self._frame_bytes_max
            events.append(Frame(bytes(self._buffer[:limit])) if within else FrameTooLarge(limit))
        self._drop(limit + len(END))
        self._inside = self._skipping = False
        return True

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
