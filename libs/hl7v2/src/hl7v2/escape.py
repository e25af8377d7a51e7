r"""Escape sequences in fields (HL7 v2.5.1 §2.7): \F\ \S\ \T\ \R\ \E\ \P\ \Xdd..\ \.br\ and relatives."""

from __future__ import annotations

import dataclasses
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
    marks: tuple[bytes, bytes, bytes, bytes] = dataclasses.field(init=False, repr=False, compare=False)
    """Field, component, repetition, subcomponent as bytes; they are ASCII. Empty: there is no such delimiter."""

    def __post_init__(self) -> None:
        texts = (self.field, self.component, self.repetition, self.subcomponent)
        object.__setattr__(self, "marks", tuple(text.encode() for text in texts))

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.subcomponent}{self.truncation}"


DEFAULT: Final = Delimiters()
# Highlighting has no meaning in plain text.
_PLAIN: Final = {"H": "", "N": ""}
# Formatting (§2.7.6) as plain text: what one of it is, and whether a number repeats it (`\.sp3\`).
_FORMATTING: Final = {
    ".br": ("\n", False), ".ce": ("\n", False), ".sp": ("\n", True), ".sk": (" ", True),
    ".fi": ("", False), ".nf": ("", False), ".in": ("", False), ".ti": ("", False),
}  # fmt: skip
_REPEAT_MAX: Final = 100


def unescape(text: str, delimiters: Delimiters = DEFAULT, codec: str = "utf-8") -> str:
    """The text that a field's text stands for; sequences that are unknown or do not end are kept as they are.

    `codec` is the message's, in which the bytes of `\\Xdd..\\` are meant.
    """
    return unescape_checked(text, delimiters, codec)[0]


def unterminated(text: str, delimiters: Delimiters = DEFAULT) -> bool:
    """Whether an escape sequence does not end."""
    return not unescape_checked(text, delimiters, "utf-8")[1]


def unescape_checked(text: str, delimiters: Delimiters, codec: str) -> tuple[str, bool]:
    """`unescape`, and whether every escape sequence ends."""
    mark = delimiters.escape
    if not mark or mark not in text:
        return text, True
    parts: list[str] = []
    position = 0
    while True:
        start = text.find(mark, position)
        end = text.find(mark, start + 1) if start >= 0 else -1
        if start < 0 or end < 0:
            parts.append(text[position:])
            return "".join(parts), start < 0
        sequence = text[start + 1 : end]
        meaning = _meaning(sequence, delimiters, codec)
        parts.append(text[position:start])
        if meaning is not None:
            parts.append(meaning)
            position = end + 1
        elif _closes(sequence):
            parts.append(text[start : end + 1])
            position = end + 1
        else:
            parts.append(text[start:end])  # the closing mark may open the next sequence
            position = end


def escape(text: str, delimiters: Delimiters = DEFAULT) -> str:
    """The text as it is written into a field; line ends become `\\.br\\`, other control characters `\\Xdd\\`.

    Raises ValueError where an escape is needed and the message declares no escape character.
    """
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
        if any(character in table or ord(character) < 0x20 for character in text):  # a line end would begin a segment
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


def _meaning(sequence: str, delimiters: Delimiters, codec: str) -> str | None:
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
    if sequence in _PLAIN:
        return _PLAIN[sequence]
    if sequence[:3] in _FORMATTING:
        return _formatting(sequence)
    if sequence[:1] == "X" and len(sequence) > 1 and len(sequence) % 2:
        try:
            return _text(bytes.fromhex(sequence[1:]), codec)
        except ValueError:
            return None
    return None


def _formatting(sequence: str) -> str | None:
    written, repeats = _FORMATTING[sequence[:3]]
    number = sequence[3:].lstrip("+-")
    if not number:
        return written
    if not number.isdecimal() or len(number) > 4:
        return None
    return written * min(int(number), _REPEAT_MAX) if repeats else written


def _text(raw: bytes, codec: str) -> str:
    """Bytes of an escape sequence, in the message's codec; senders use UTF-8 and Latin-1 also where it is another."""
    for one in (codec, "utf-8"):
        if one.startswith("utf-16"):
            continue
        try:
            return raw.decode(one)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _closes(sequence: str) -> bool:
    """Whether an unknown sequence looks like one (`\\Z01\\`, `\\C2842\\`), so that its closing mark belongs to it."""
    return 0 < len(sequence) <= 12 and sequence[0] in "CMXZ.HN" and sequence[1:].replace(".", "").isalnum()
