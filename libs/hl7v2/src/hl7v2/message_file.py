"""What lies in a file of HL7 messages: one, several behind each other, batches, or frames as they were captured."""

from __future__ import annotations

from typing import NamedTuple

from hl7v2 import mllp
from hl7v2.acknowledgment import Finding
from hl7v2.batch import split_batch

_FRAMING = "MLLP"


class MessageFile(NamedTuple):
    """The messages of a file in order, and what was wrong around them."""

    messages: tuple[bytes, ...]
    findings: tuple[Finding, ...]


def read_message_file(data: bytes) -> MessageFile:
    """The messages of these bytes; never raises. A frame may hold a batch."""
    if not _is_framed(data):
        file = split_batch(data)
        return MessageFile(file.messages, file.findings)
    decoder = mllp.Decoder(frame_bytes_max=max(1, len(data)))
    messages: list[bytes] = []
    findings: list[Finding] = []
    for event in [*decoder.receive_data(data), *decoder.receive_eof()]:
        if isinstance(event, mllp.Frame):
            file = split_batch(event.body)
            messages += file.messages
            findings += file.findings
            if event.tolerated:
                findings.append(_framing("warning", "0x1C 0x0D behind every message", "0x1C without 0x0D"))
        elif isinstance(event, mllp.JunkBeforeStart):
            findings.append(_framing("warning", "nothing between frames", f"{event.count} bytes"))
        elif isinstance(event, mllp.MissingStart):
            findings.append(_framing("error", "0x0B before every message", f"{event.size_bytes} bytes without it"))
        else:
            size = event.size if isinstance(event, mllp.FrameTooLarge) else event.size_bytes
            findings.append(_framing("error", "0x1C 0x0D behind every message", f"{size} bytes without it"))
    return MessageFile(tuple(messages), tuple(findings))


def _is_framed(data: bytes) -> bool:
    """Whether there are frames. In UTF-16, 0x0B alone may be part of a character."""
    return data.startswith(mllp.START) or any(mllp.START + name in data for name in (b"MSH", b"FHS", b"BHS"))


def _framing(severity: str, expected: str, found: str) -> Finding:
    return Finding("", "100", severity, expected, found, _FRAMING)
