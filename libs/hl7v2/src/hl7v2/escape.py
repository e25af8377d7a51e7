r"""Escape sequences in fields (HL7 v2.5.1 §2.7): \F\ \S\ \T\ \R\ \E\ \P\ \Xdd..\ \.br\ and relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Delimiters:
    """The encoding characters of a message (MSH-1 and MSH-2)."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    truncation: str = ""

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.subcomponent}{self.truncation}"


DEFAULT: Final = Delimiters()
# Formatting that has a meaning in plain text; highlighting (\H\ \N\) has none.
_FORMATTING: Final = {".br": "\n", ".sp": "\n", ".ce": "\n", ".fi": "", ".nf": "", "H": "", "N": ""}


def unescape(text: str, delimiters: Delimiters = DEFAULT) -> str:
    """The text that a field's text stands for; sequences that are unknown or do not end are kept as they are."""
    mark = delimiters.escape
    if not mark or mark not in text:
        return text
    parts: list[str] = []
    position = 0
    while True:
        start = text.find(mark, position)
        end = text.find(mark, start + 1) if start >= 0 else -1
        if start < 0 or end < 0:
            parts.append(text[position:])
            return "".join(parts)
        meaning = _meaning(text[start + 1 : end], delimiters)
        parts.append(text[position:start])
        if meaning is None:
            parts.append(text[start:end])  # the closing mark may open the next sequence
            position = end
            if _closes(text[start + 1 : end]):
                parts.append(mark)
                position = end + 1
        else:
            parts.append(meaning)
            position = end + 1


def unterminated(text: str, delimiters: Delimiters = DEFAULT) -> bool:
    """Whether an escape sequence does not end."""
    return bool(delimiters.escape) and text.count(delimiters.escape) % 2 == 1


def escape(text: str, delimiters: Delimiters = DEFAULT) -> str:
    """The text as it is written into a field; line ends become `\\.br\\`, other control characters `\\Xdd\\`."""
    mark = delimiters.escape
    table = {
        delimiters.field: "F",
        delimiters.component: "S",
        delimiters.subcomponent: "T",
        delimiters.repetition: "R",
        mark: "E",
    }
    if delimiters.truncation:
        table[delimiters.truncation] = "P"
    if not mark:
        if any(character in table for character in text if character):
            raise ValueError("the message declares no escape character")
        return text
    written: list[str] = []
    for character in text.replace("\r\n", "\n").replace("\r", "\n"):
        if character in table:
            written.append(f"{mark}{table[character]}{mark}")
        elif character == "\n":
            written.append(f"{mark}.br{mark}")
        elif ord(character) < 0x20:
            written.append(f"{mark}X{ord(character):02X}{mark}")
        else:
            written.append(character)
    return "".join(written)


def _meaning(sequence: str, delimiters: Delimiters) -> str | None:
    single = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
        "P": delimiters.truncation or None,
    }
    if sequence in single:
        return single[sequence]
    name = sequence.rstrip("+-0123456789")
    if name in _FORMATTING:
        return _FORMATTING[name]
    if sequence[:1] == "X" and len(sequence) > 1 and len(sequence) % 2:
        try:
            raw = bytes.fromhex(sequence[1:])
        except ValueError:
            return None
        return raw.decode("utf-8", "replace") if not raw.isascii() else raw.decode("ascii")
    return None


def _closes(sequence: str) -> bool:
    """Whether an unknown sequence looks like one (`\\Z01\\`, `\\C2842\\`), so that its closing mark belongs to it."""
    return 0 < len(sequence) <= 12 and sequence[0] in "CMXZ.HN" and sequence[1:].replace(".", "").isalnum()
