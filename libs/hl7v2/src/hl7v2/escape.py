r"""Escape sequences in fields (HL7 v2.5.1 §2.7): \F\ \S\ \T\ \R\ \E\ \P\ \Xdd..\ \Cxxyy\ \Mxxyyzz\ \.br\ and relatives.

`unescape(escape(text)) == text` for every text. What `unescape` does not understand stays as it is: a sequence that is
unknown (`\Z01\`), that does not end, or whose bytes are of no character set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final


class Delimiters:
    """The encoding characters of a message (MSH-1 and MSH-2); an empty one is not declared. Never changes."""

    # Written out: importing `dataclasses` would take half of the time in which this package may be imported.
    __slots__ = ("component", "escape", "field", "marks", "repetition", "subcomponent", "truncation")

    def __init__(
        self,
        field: str = "|",
        component: str = "^",
        repetition: str = "~",
        escape: str = "\\",
        subcomponent: str = "&",
        truncation: str = "",
    ) -> None:
        self.field = field
        self.component = component
        self.repetition = repetition
        self.escape = escape
        self.subcomponent = subcomponent
        self.truncation = truncation
        self.marks = (field.encode(), component.encode(), repetition.encode(), subcomponent.encode())
        """Field, component, repetition, subcomponent as bytes; they are ASCII. Empty: there is no such delimiter."""

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.subcomponent}{self.truncation}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Delimiters):
            return NotImplemented
        return (self.marks, self.escape, self.truncation) == (other.marks, other.escape, other.truncation)

    def __hash__(self) -> int:
        return hash((self.marks, self.escape, self.truncation))

    def __repr__(self) -> str:
        return f"Delimiters({self.field + self.encoding_characters!r})"


DEFAULT: Final = Delimiters()
# Formatting (§2.7.6) as plain text: what one of it is, and whether a number repeats it (`\.sp3\`).
_FORMATTING: Final = {
    ".br": ("\n", False), ".ce": ("\n", False), ".sp": ("\n", True), ".sk": (" ", True),
    ".fi": ("", False), ".nf": ("", False), ".in": ("", False), ".ti": ("", False),
}  # fmt: skip
_REPEAT_MAX: Final = 100
_HEXADECIMAL_MAX: Final = 1 << 20
"""Digits of one `\\Xdd..\\`; more than that is no character data."""

# Changes of the character set inside a field (§2.7.3): the digits are those of an ISO 2022 escape sequence. For each
# the codec that reads what follows, and the bytes that this codec wants in front.
_SWITCHES: Final[dict[str, tuple[str, bytes]]] = {
    "C2842": ("ascii", b""), "C284A": ("iso2022_jp_ext", b"\x1b(J"),
    "C2849": ("iso2022_jp_ext", b"\x1b(I"), "C2949": ("iso2022_jp_ext", b"\x1b(I"),
    "C2D41": ("iso8859-1", b""), "C2D42": ("iso8859-2", b""), "C2D43": ("iso8859-3", b""), "C2D44": ("iso8859-4", b""),
    "C2D46": ("iso8859-7", b""), "C2D47": ("iso8859-6", b""), "C2D48": ("iso8859-8", b""), "C2D4C": ("iso8859-5", b""),
    "C2D4D": ("iso8859-9", b""), "C2D62": ("iso8859-15", b""),
    "M2440": ("iso2022_jp_ext", b"\x1b$@"), "M2442": ("iso2022_jp_ext", b"\x1b$B"),
    "M242844": ("iso2022_jp_ext", b"\x1b$(D"), "M242841": ("iso2022_jp_2", b"\x1b$A"),
    "M2441": ("iso2022_jp_2", b"\x1b$A"), "M242843": ("iso2022_jp_2", b"\x1b$(C"),
}  # fmt: skip
_UNICODE: Final = ("utf-8", "utf-16", "utf-32")


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
    meanings = _meanings(delimiters)
    pieces = text.split(mark)
    if len(pieces) % 2 and all(piece in meanings for piece in pieces[1::2]):  # single characters only, as nearly always
        pieces[1::2] = [meanings[piece] for piece in pieces[1::2]]
        return "".join(pieces), True
    written = _Unescaped(codec)
    position = 0
    while True:
        start = text.find(mark, position)
        end = text.find(mark, start + 1) if start >= 0 else -1
        if start < 0 or end < 0:
            written.literal(text[position:])
            return written.text(), start < 0
        if start > position:
            written.literal(text[position:start])
        sequence = text[start + 1 : end]
        position = end + 1
        meaning = meanings.get(sequence)
        if meaning is not None:
            written.meant(meaning)
        elif not written.takes(sequence):
            if not _closes(sequence):
                position = end  # the closing mark may open the next sequence
            written.meant(text[start:position])


class _Unescaped:
    """Text as it is put together: bytes of neighbouring `\\X..\\` are one text, and a character set may be switched."""

    __slots__ = ("_codec", "_parts", "_raw", "_switch")

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._parts: list[str] = []
        self._raw = bytearray()
        self._switch: tuple[str, bytes] | None = None

    def literal(self, text: str) -> None:
        """Text that is no sequence; it is of the character set that was switched to."""
        self.meant(text if self._switch is None else _switched(text, self._codec, *self._switch))

    def meant(self, text: str) -> None:
        """Text that needs no more interpretation."""
        if self._raw:
            self._flush()
        self._parts.append(text)

    def takes(self, sequence: str) -> bool:
        """Whether a sequence that stands for no single character is understood; then it is part of the text."""
        kind = sequence[:1]
        if kind == "X":
            return self._hexadecimal(sequence[1:])
        if kind == ".":
            formatted = _formatting(sequence)
            if formatted is not None:
                self.meant(formatted)
            return formatted is not None
        if kind in {"C", "M"} and not self._codec.startswith(_UNICODE):
            switch = _SWITCHES.get(sequence.upper())
            if switch is not None:
                self._flush()
                self._switch = switch
            return switch is not None
        return False

    def text(self) -> str:
        self._flush()
        return "".join(self._parts)

    def _hexadecimal(self, digits: str) -> bool:
        if not digits or len(digits) % 2 or len(digits) > _HEXADECIMAL_MAX or not digits.isalnum():
            return False
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            return False
        self._raw += raw
        return True

    def _flush(self) -> None:
        if self._raw:
            self._parts.append(_text(bytes(self._raw), self._codec))
            self._raw = bytearray()


def escape(text: str, delimiters: Delimiters = DEFAULT) -> str:
    """The text as it is written into a field: a line feed is `\\.br\\`, other control characters are `\\Xdd..\\`.

    Raises ValueError where an escape is needed and the message declares no escape character.
    """
    table = _translations(delimiters)
    if not delimiters.escape:
        if any(ord(character) in table for character in text):  # a line end would begin a segment
            raise ValueError("the message declares no escape character")
        return text
    written = text.translate(table)
    # A line end of two characters is one sequence: readers that make a line of each would make two.
    mark = delimiters.escape
    return written.replace(f"{mark}X0D{mark}{mark}.br{mark}", f"{mark}X0D0A{mark}") if "\r\n" in text else written


@lru_cache(maxsize=256)
def _translations(delimiters: Delimiters) -> dict[int, str]:
    mark = delimiters.escape
    table = {code: f"{mark}X{code:02X}{mark}" for code in range(0x20)}
    if "." not in delimiters.field + delimiters.encoding_characters:
        table[0x0A] = f"{mark}.br{mark}"
    for name, character in _named(delimiters).items():
        table[ord(character)] = f"{mark}{name}{mark}"
    return table


@lru_cache(maxsize=256)
def _meanings(delimiters: Delimiters) -> dict[str, str]:
    return {**_named(delimiters), "H": "", "N": ""}  # highlighting has no meaning in plain text


def _named(delimiters: Delimiters) -> dict[str, str]:
    named = {
        "F": delimiters.field, "S": delimiters.component, "T": delimiters.subcomponent, "R": delimiters.repetition,
        "E": delimiters.escape, "P": delimiters.truncation,
    }  # fmt: skip
    return {name: character for name, character in named.items() if character}


def _formatting(sequence: str) -> str | None:
    known = _FORMATTING.get(sequence[:3].lower())
    if known is None:
        return None
    written, repeats = known
    number = sequence[3:].lstrip("+-")
    if not number:
        return written
    if not number.isdecimal() or len(number) > 4:
        return None
    return written * min(int(number), _REPEAT_MAX) if repeats else written


def _text(raw: bytes, codec: str) -> str:
    """Bytes of an escape sequence, in the message's codec; senders use UTF-8 and Latin-1 also where it is another."""
    for one in (codec, "utf-8"):
        if one.startswith(("utf-16", "utf-32")):
            continue
        try:
            return raw.decode(one)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _switched(text: str, codec: str, to: str, prefix: bytes) -> str:
    """Text read in the message's codec, whose bytes are meant in another; as it was where they are none of that."""
    try:
        raw = text.encode(codec)
        if prefix:  # ISO 2022 with seven bits; whoever writes eight means the same character
            raw = prefix + bytes(byte & 0x7F for byte in raw)
        return raw.decode(to)
    except UnicodeError:
        return text


def _closes(sequence: str) -> bool:
    """Whether an unknown sequence looks like one (`\\Z01\\`, `\\C2842\\`), so that its closing mark belongs to it."""
    return 0 < len(sequence) <= 12 and sequence[0] in "CMXZ.HN" and sequence[1:].replace(".", "").isalnum()
