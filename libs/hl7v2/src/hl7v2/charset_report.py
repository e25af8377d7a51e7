"""What a message says of its character set, what its bytes say, and where characters were broken before it came.

Only reported: a message is never rewritten because of it. The evidence names kinds, counts and places, no text.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hl7v2 import charset

_RUNS_MAX: Final = 10_000
"""Runs of characters beyond ASCII that are looked at for text that was encoded twice."""

NOT_DECODABLE: Final = "not-decodable"
UTF_8_SEQUENCES: Final = "utf-8-sequences"
WINDOWS_CHARACTERS: Final = "windows-characters"
REPLACEMENT_CHARACTER: Final = "replacement-character"
ENCODED_TWICE: Final = "encoded-twice"


class Evidence(NamedTuple):
    """A kind of finding, how often, and at which byte of the message first.

    `not-decodable`: bytes that are none of the declared set. `utf-8-sequences`: characters in UTF-8, which was not
    declared. `windows-characters`: quotation marks and the like of Windows' sets, where 8859 has controls.
    `replacement-character`: U+FFFD, left where somebody could not read. `encoded-twice`: UTF-8 that was read as Latin-1
    and written as UTF-8 again ("Ã©").
    """

    kind: str
    times: int
    offset: int


class CharsetReport(NamedTuple):
    """MSH-18 as codecs (none where it is left out or unknown), the codec in use, the note, and the evidence."""

    declared: tuple[str, ...]
    codec: str
    note: str | None
    evidence: tuple[Evidence, ...]

    @property
    def is_broken(self) -> bool:
        """Whether characters were lost or broken before the message came: nothing that is read makes them whole."""
        return any(one.kind in {REPLACEMENT_CHARACTER, ENCODED_TWICE} for one in self.evidence)


def examine(data: bytes, codec: str, said: charset.Declared, note: str | None) -> CharsetReport:
    """The report on a message's bytes; `codec` is what they are read in."""
    named = tuple(one for one in (said.codec, *said.others) if one is not None)
    found = []
    if said.codec is not None and said.codec != codec and charset.unit_bytes(said.codec) == 1:
        found += [*_not_decodable(data, said.codec), *_windows(data, said.codec)]
    if codec == "utf-8" and said.codec != "utf-8" and not data.isascii():
        found += _utf_8(data)
    text = data.decode(codec, "replace")
    if not text.isascii():
        found += [*_replacements(text, codec), *_twice(text, codec)]
    return CharsetReport(named, codec, note, tuple(found))


def _not_decodable(data: bytes, codec: str) -> list[Evidence]:
    try:
        data.decode(codec)
    except UnicodeDecodeError as error:
        return [Evidence(NOT_DECODABLE, data.decode(codec, "replace").count("\ufffd"), error.start)]
    return []


def _windows(data: bytes, codec: str) -> list[Evidence]:
    if not codec.startswith("iso8859"):
        return []
    places = [index for index, byte in enumerate(data) if 0x80 <= byte < 0xA0]
    decodes = charset.decodes(data, "utf-8")
    return [Evidence(WINDOWS_CHARACTERS, len(places), places[0])] if places and not decodes else []


def _utf_8(data: bytes) -> list[Evidence]:
    beyond = [index for index, byte in enumerate(data) if byte >= 0xC0]
    return [Evidence(UTF_8_SEQUENCES, len(beyond), beyond[0])] if beyond else []


def _replacements(text: str, codec: str) -> list[Evidence]:
    count = text.count("\ufffd")
    return [Evidence(REPLACEMENT_CHARACTER, count, _offset(text, text.index("\ufffd"), codec))] if count else []


def _twice(text: str, codec: str) -> list[Evidence]:
    import re

    places = []
    for number, run in enumerate(re.finditer(r"[\x80-\uffff]{2,}", text)):
        if number >= _RUNS_MAX:
            break
        if any(_is_utf_8(run.group(), one) for one in ("latin-1", "cp1252")):
            places.append(run.start())
    return [Evidence(ENCODED_TWICE, len(places), _offset(text, places[0], codec))] if places else []


def _is_utf_8(run: str, codec: str) -> bool:
    """Whether characters, written in a single-byte set, are UTF-8."""
    try:
        run.encode(codec).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _offset(text: str, index: int, codec: str) -> int:
    """The byte at which a character begins; near it where characters before it were not decodable."""
    return len(text[:index].encode(codec, "replace"))
