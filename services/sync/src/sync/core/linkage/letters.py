"""Text in the form in which it is compared: no case, no diacritics, one alphabet where a simple table leads to it.

Latin text loses its marks (Unicode NFKC, casefold, NFKD: UAX #15, UAX #31). Cyrillic is transliterated by the table
of ICAO Doc 9303 part 3, section 6, and Greek by the single-letter table of ISO 843 as ELOT 743 prints it, both
without their exceptions for letters in context but for ου. Arabic loses vowel signs and the forms of alef, yeh and
teh marbuta that are interchanged in writing; katakana become hiragana. Those two, Han and everything else are
compared within their script: there is no way from a Han name to its reading without the person.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

FOLDED_CHARACTERS_MAX: Final = 200
CACHE_ENTRIES_MAX: Final = 65_536
_ROUNDS_MAX: Final = 4

# Letters that Unicode does not decompose, although people leave their strokes away.
_LATIN: Final = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ß": "ss", "ə": "a",
    "ŋ": "n", "ŧ": "t", "ɓ": "b", "ɗ": "d", "ƙ": "k", "ʻ": "", "ʼ": "", "ʾ": "", "ʿ": "", "’": "", "'": "", "`": "",
    "´": "", "‘": "",
}  # fmt: skip
# ICAO Doc 9303-3 §6.B; the soft sign has no letter, the hard sign is written IE there and is dropped by most registers.
_CYRILLIC: Final = {
    "а": "a", "б": "b", "в": "v", "г": "g", "ґ": "g", "д": "d", "е": "e", "ё": "e", "є": "ie", "ж": "zh", "з": "z",
    "и": "i", "і": "i", "ї": "i", "й": "i", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r",
    "с": "s", "т": "t", "у": "u", "ў": "u", "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch",
    "ъ": "", "ы": "y", "ь": "", "э": "e", "ю": "iu", "я": "ia", "ђ": "d", "ј": "j", "љ": "lj", "њ": "nj", "ћ": "c",
    "џ": "dz",
}  # fmt: skip
_GREEK: Final = {
    "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k", "λ": "l",
    "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t", "υ": "y", "φ": "f",
    "χ": "ch", "ψ": "ps", "ω": "o",
}  # fmt: skip
# Forms of one letter that are interchanged in writing, and the tatweel, which only stretches a line.
# The one digraph in every other Greek name.
_GREEK_OU: Final = re.compile("ο[υύὺῦ]")
# The marks that make another kana of one: か and が are no two ways of writing a name.
_VOICED: Final = frozenset("\u3099\u309a")
_ARABIC: Final = {"أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه", "ـ": ""}
_KANA: Final = {chr(code): chr(code - 0x60) for code in range(0x30A1, 0x30F7)}
_TABLE: Final = str.maketrans({**_LATIN, **_CYRILLIC, **_GREEK, **_ARABIC, **_KANA})
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")
_ASCII_DROPPED: Final = str.maketrans("", "", "'`")
_SCRIPTS: Final = (
    ("arabic", 0x0600, 0x06FF), ("han", 0x3400, 0x9FFF), ("kana", 0x3041, 0x309F),
    ("hangul", 0xAC00, 0xD7A3),
)  # fmt: skip


def fold(text: str) -> str:
    """Words in comparable letters, one space between them, at most `FOLDED_CHARACTERS_MAX` characters; idempotent."""
    if text.isascii():
        return _NOT_WORD.sub(" ", text.lower().translate(_ASCII_DROPPED)).strip()[:FOLDED_CHARACTERS_MAX].rstrip()
    return _folded(text)


@lru_cache(CACHE_ENTRIES_MAX)
def _folded(text: str) -> str:
    # Taking marks away can leave a letter that the tables know: once more until nothing changes.
    for _ in range(_ROUNDS_MAX):
        once = _fold_once(text)
        if once == text:
            break
        text = once
    return text


def _fold_once(text: str) -> str:
    plain = _GREEK_OU.sub("ou", unicodedata.normalize("NFKC", text).casefold()).translate(_TABLE)
    plain = unicodedata.normalize("NFKD", plain).translate(_TABLE)
    kept = "".join(
        character if character.isalnum() or unicodedata.category(character).startswith("M") else " "
        for character in plain
        # Marks without a combining class are vowels in Indic scripts: they belong to the word.
        if not unicodedata.combining(character) or character in _VOICED
    )
    # NFKD took Hangul apart; whole syllables are what differs from person to person.
    return " ".join(unicodedata.normalize("NFC", kept).split())[:FOLDED_CHARACTERS_MAX].rstrip()


def script_of(folded: str) -> str:
    """The script of the first letter of folded text: latin (also of what was transliterated), arabic, han, …, other."""
    if not folded:
        return "none"
    code = ord(folded[0])
    if code < 0x0250:
        return "latin"
    return next((name for name, first, last in _SCRIPTS if first <= code <= last), "other")
