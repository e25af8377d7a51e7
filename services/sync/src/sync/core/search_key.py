"""Names as they are searched: without case, diacritics and punctuation, in any order of family and given name."""

from __future__ import annotations

import unicodedata
from typing import Final

from common.models.records import Patient

KEY_CHARACTERS_MAX: Final = 200

# Letters that Unicode does not decompose, although people leave their strokes away.
_PLAIN: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}
)


def search_key(text: str) -> str:
    """The form in which names are compared."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold()).translate(_PLAIN)
    plain = "".join(
        # Marks without a combining class are vowels in Indic scripts: they belong to the word.
        character if character.isalnum() or unicodedata.category(character).startswith("M") else " "
        for character in folded
        if not unicodedata.combining(character)
    )
    return " ".join(plain.split())[:KEY_CHARACTERS_MAX]


def name_keys(patient: Patient) -> set[str]:
    """What a patient's names are found by: family first, and each given name first."""
    keys = set()
    for name in patient.names:
        given = search_key(" ".join(name.given))
        family = search_key(name.family or "")
        keys.add(search_key(f"{family} {given}"))
        keys.add(search_key(f"{given} {family}"))
        keys.add(search_key(name.text or ""))
        keys.update(search_key(f"{one} {family}") for one in name.given[1:])
    return {key for key in keys if key}
