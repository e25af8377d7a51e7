"""Unity's dictionaries, and what value maps and mappings use of them: mismatches by entry, with the update proposed.

A dictionary is a table of the PMS (appointment types, locations, providers, …) whose codes and names the practice
changes at will. The names of a row's columns differ by product and are not documented: they are found loosely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from pms.source import Source
from pms.unity import AnswerKind, UnityAnswer

ENTRIES_MAX: Final = 20_000
SIMILARITY_MIN: Final = 0.75
# A name is compared with every name of the dictionary: so many comparisons, then only equal names are proposed.
LIKENESSES_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Column:
    """What a column means, by the names it was seen or is assumed under (lower case, letters only), best first."""

    meaning: str
    names: tuple[str, ...]
    source: Source


COLUMNS: Final[tuple[Column, ...]] = (
    Column("code", ("code", "entrycode", "entrymnemonic", "mnemonic", "id", "entryid"), Source.ASSUMED),
    Column("display", ("description", "entryname", "name", "display", "entrydescription"), Source.ASSUMED),
    Column("active", ("active", "isactive", "inactive", "isinactive", "inactiveflag"), Source.ASSUMED),
    Column("table", ("table", "tablename", "dictionary", "dictionaryname"), Source.ASSUMED),
)
_BY_MEANING: Final = {row.meaning: row for row in COLUMNS}
_NO: Final = frozenset({"n", "no", "false", "0"})
_YES: Final = frozenset({"y", "yes", "true", "1"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a dictionary."""

    code: str
    display: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class Use:
    """A code that a value map or mapping uses, and where; `display` as it was when the map was made (may be empty)."""

    code: str
    display: str
    used_by: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One use that does not fit. `proposed`: the entry to use instead; None: a person has to choose."""

    kind: str
    use: Use
    proposed: Entry | None
    why: str
    next_step: str

    def as_json(self) -> dict[str, Any]:
        """The mismatch as the API shows it."""
        proposed = None
        if self.proposed is not None:
            proposed = {"code": self.proposed.code, "display": self.proposed.display}
        return {
            "kind": self.kind,
            "code": self.use.code,
            "display": self.use.display,
            "used_by": self.use.used_by,
            "proposed": proposed,
            "why": self.why,
            "next_step": self.next_step,
        }


def parse_dictionary_names(answer: UnityAnswer) -> tuple[str, ...] | None:
    """The tables of GetListOfDictionaries; None when the answer is another one."""
    if answer.kind is not AnswerKind.ROWS or answer.action != "getlistofdictionaries":
        return None
    found = dict.fromkeys(_text(row, "table") or _text(row, "display") for row in answer.rows[:ENTRIES_MAX])
    return tuple(name for name in found if name)


def parse_dictionary(answer: UnityAnswer) -> tuple[Entry, ...] | None:
    """The entries of GetDictionary that have a code; None when the answer is another one."""
    if answer.kind is not AnswerKind.ROWS or answer.action != "getdictionary":
        return None
    entries = (Entry(_text(row, "code"), _text(row, "display"), _active(row)) for row in answer.rows[:ENTRIES_MAX])
    return tuple(entry for entry in entries if entry.code)


def _text(row: Mapping[str, Any], meaning: str) -> str:
    value = _value(row, meaning)[1]
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _value(row: Mapping[str, Any], meaning: str) -> tuple[str, Any]:
    named = {"".join(filter(str.isalpha, name.lower())): value for name, value in row.items()}
    return next(
        ((name, named[name]) for name in _BY_MEANING[meaning].names if named.get(name) not in (None, "")), ("", "")
    )


def _active(row: Mapping[str, Any]) -> bool:
    name, value = _value(row, "active")
    said = str(value).strip().lower()
    negative = said in _YES if "inactive" in name else said in _NO
    return not negative


class _Dictionary:
    """Entries by code and by name."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.by_code: dict[str, Entry] = {}
        self.folded: dict[str, Entry] = {}
        self._active = [entry for entry in entries if entry.active]
        self._named: dict[str, list[Entry]] = {}
        self._likenesses = 0
        for entry in entries:
            self.by_code.setdefault(entry.code, entry)
            self.folded.setdefault(entry.code.casefold(), entry)
        for entry in self._active:
            self._named.setdefault(_plain(entry.display), []).append(entry)

    def named(self, name: str) -> Entry | None:
        """The one active entry of this name, else the one most like it; None when two are equally near, or none is."""
        wanted = _plain(name)
        same = self._named.get(wanted, []) if wanted else []
        if same or not wanted or self._likenesses >= LIKENESSES_MAX:
            return same[0] if len(same) == 1 else None
        self._likenesses += len(self._named)
        matcher = SequenceMatcher(None, "", wanted, autojunk=False)
        scored = sorted(((_likeness(matcher, plain), plain) for plain in self._named), reverse=True)[:2]
        if not scored or scored[0][0] < SIMILARITY_MIN or (len(scored) > 1 and scored[0][0] == scored[1][0]):
            return None
        near = self._named[scored[0][1]]
        return near[0] if len(near) == 1 else None


def compare(entries: Sequence[Entry], uses: Iterable[Use]) -> list[Mismatch]:
    """Uses that do not fit the dictionary: unknown, inactive, renamed, written in other case; in the uses' order."""
    dictionary = _Dictionary(entries)
    found = (_mismatch(use, dictionary) for use in uses)
    return [mismatch for mismatch in found if mismatch is not None]


def _mismatch(use: Use, dictionary: _Dictionary) -> Mismatch | None:
    entry = dictionary.by_code.get(use.code)
    if entry is None:
        near = dictionary.folded.get(use.code.casefold())
        if near is not None:
            return Mismatch(
                "other-case", use, near, "The code is written in another case.", "Write the code as proposed."
            )
        proposed = dictionary.named(use.display)
        step = _step(proposed, "add it in the PMS")
        return Mismatch("unknown", use, proposed, "The dictionary has no such code.", step)
    if not entry.active:
        proposed = dictionary.named(use.display or entry.display)
        step = _step(proposed, "reactivate it in the PMS")
        return Mismatch("inactive", use, proposed, "The entry is inactive.", step)
    if use.display and _plain(use.display) != _plain(entry.display):
        return Mismatch(
            "renamed",
            use,
            entry,
            "The code has another name now: it may mean something else.",
            "Check that the meaning is the same, then take over the name.",
        )
    return None


def _step(proposed: Entry | None, otherwise: str) -> str:
    if proposed is None:
        return f"Choose an entry of the dictionary, or {otherwise}."
    return f"Replace the code by the one proposed, or {otherwise}."


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _likeness(matcher: SequenceMatcher[str], name: str) -> float:
    matcher.set_seq1(name)
    # The cheap upper bounds first: a dictionary has thousands of entries.
    if matcher.real_quick_ratio() < SIMILARITY_MIN or matcher.quick_ratio() < SIMILARITY_MIN:
        return 0.0
    return matcher.ratio()
