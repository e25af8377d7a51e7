"""Family and given names as they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sync.core.linkage.letters import CACHE_ENTRIES_MAX, fold

WORDS_MAX: Final = 8

# Words that registers leave away, write apart or write together.
PARTICLES: Final = frozenset({
    "van", "von", "der", "den", "de", "del", "della", "di", "da", "do", "dos", "das", "du", "des", "la", "le", "las",
    "los", "el", "al", "bin", "binti", "ibn", "bint", "ter", "ten", "te", "zu", "zur", "zum", "af", "av", "y", "e",
})  # fmt: skip
TITLES: Final = frozenset({"mr", "mrs", "ms", "miss", "dr", "prof", "sir", "herr", "frau", "sra", "sr", "mme", "md"})
GENERATIONS: Final = {
    "jr": "2", "junior": "2", "ii": "2", "2nd": "2", "sr": "1", "senior": "1", "i": "1", "iii": "3", "3rd": "3",
    "iv": "4", "4th": "4", "v": "5",
}  # fmt: skip
_PLACEHOLDERS: Final = frozenset(
    {"unknown", "unk", "na", "none", "null", "test", "baby", "babyboy", "babygirl", "xxx", "noname"}
)


@dataclass(frozen=True, slots=True)
class FamilyName:
    """`key` is the name without its particles, in one word; `forms` are other ways in which it is written: with its
    particles, and each half of a double name."""

    key: str
    forms: frozenset[str]


_EMPTY: Final = FamilyName("", frozenset())


@lru_cache(CACHE_ENTRIES_MAX)
def family_name(text: str) -> FamilyName:
    """`de la Cruz-Ortiz` → cruzortiz; delacruzortiz, cruz, ortiz. A placeholder (Unknown) is no name."""
    words = fold(text).split()[:WORDS_MAX]
    # A generation is no part of a name unless there is nothing else.
    while len(words) > 1 and words[-1] in GENERATIONS and len(words[-1]) > 1:
        words.pop()
    # Of a name that has particles alone they are the name (Le, Do).
    core = [word for word in words if word not in PARTICLES] or words
    key = "".join(core)
    if not key or key in _PLACEHOLDERS:
        return _EMPTY
    forms = {"".join(words), *(word for word in core if len(core) > 1 and len(word) > 2)}
    return FamilyName(key, frozenset(forms - {key}))


@lru_cache(CACHE_ENTRIES_MAX)
def given_words(text: str) -> tuple[str, ...]:
    """The given names of one text: folded, without titles and placeholders; a hyphenated name is one word."""
    words = fold(text.replace("-", "")).split()[:WORDS_MAX]
    return tuple(word for word in words if word not in TITLES and word not in _PLACEHOLDERS)


@lru_cache(1024)
def generation(text: str) -> str:
    """`Jr.` → 2, `Sr` → 1, `III` → 3; empty for other suffixes."""
    return next((GENERATIONS[word] for word in fold(text).split() if word in GENERATIONS), "")
