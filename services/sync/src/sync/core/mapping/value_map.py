"""Value maps: source codes → Practice Studio's own codes, rows {source system, source code, display → target code}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Unmapped = Counter[tuple[str, str, str]]
"""How often a code was looked up in vain: by system, code and display."""


@dataclass(frozen=True, slots=True)
class ValueMapRow:
    """One code; an empty `source_system` fits codes of any system that no other row names."""

    source_system: str
    source_code: str
    display: str
    target_code: str


@dataclass(frozen=True, slots=True)
class ValueMap:
    """Looks codes up; texts are compared without regard to case and outer blanks."""

    codes: Mapping[tuple[str, str], str]
    unmapped: Unmapped | None = None
    """Where codes that no row names are counted; None: nowhere."""

    def target(self, code: str, system: str = "", display: str = "") -> str | None:
        """The target code, None when no row names the code (reported, never guessed)."""
        folded = code.strip().casefold()
        found = self.codes.get((system, folded))
        if found is None and system:
            found = self.codes.get(("", folded))
        if found is None and self.unmapped is not None:
            self.unmapped[(system, code.strip(), display)] += 1
        return found


def value_map_of(rows: Iterable[ValueMapRow], unmapped: Unmapped | None = None) -> ValueMap:
    """The map of rows; raises ValueError naming the line of a code that stands there twice."""
    codes: dict[tuple[str, str], str] = {}
    for line, row in enumerate(rows, start=1):
        key = (row.source_system, row.source_code.strip().casefold())
        if key in codes:
            raise ValueError(f"row {line}: the source code stands there twice")
        codes[key] = row.target_code
    return ValueMap(codes, unmapped)
