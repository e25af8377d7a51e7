"""What agreement of a field is worth: m and u probabilities as rows, weights in bits.

I. P. Fellegi, A. B. Sunter, A Theory for Record Linkage, JASA 64 (1969): the weight of a level is log2(m/u), where m is
its probability among pairs that are one person and u among pairs that are not; the weights of the fields add up,
because the fields are taken to be independent given the truth. Where they are not (a household shares family name,
telephone and address) the guards of `decision` stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from sync.core.linkage.fields import FIELDS, LEVEL_OF

PROBABILITY_MIN: Final = 0.000_001
# Of fewer records the odds are not to be trusted: the next import brings more.
POPULATION_MIN: Final = 1_000


@dataclass(frozen=True, slots=True)
class LevelRow:
    """A row of a model: how often a level is seen in pairs of one person (`m`) and of two persons (`u`)."""

    field: str
    level: str
    m: float
    u: float

    @property
    def bits(self) -> float:
        """The weight; positive speaks for one person."""
        return log2(max(self.m, PROBABILITY_MIN) / max(self.u, PROBABILITY_MIN))


@dataclass(frozen=True, slots=True)
class Model:
    """Rows for the levels of all fields, and the odds (n to 1, that a pair is one person) from which on it is one, and
    from which on a person decides."""

    rows: tuple[LevelRow, ...]
    match_odds: float
    review_odds: float

    def thresholds(self, population: int) -> tuple[float, float]:
        """The two thresholds in bits when one pair of `population` is one person: log2 of prior odds and of odds."""
        prior = log2(max(population, POPULATION_MIN))
        return prior + log2(self.match_odds), prior + log2(self.review_odds)

    def weights(self) -> tuple[tuple[float, ...], ...]:
        """Per field, in bits per level, in the order of `FIELDS`; a level without a row weighs nothing."""
        return weights_of(self.rows)


def weights_of(rows: Iterable[LevelRow]) -> tuple[tuple[float, ...], ...]:
    """The same of rows alone; raises KeyError for a field or level that is not in `FIELDS`."""
    table = [[0.0] * len(field.levels) for field in FIELDS]
    positions = {field.name: number for number, field in enumerate(FIELDS)}
    for row in rows:
        level = LEVEL_OF[row.field, row.level]
        if level:
            table[positions[row.field]][level] = row.bits
    return tuple(map(tuple, table))


def rows_of(m: Sequence[Sequence[float]], u: Sequence[Sequence[float]]) -> tuple[LevelRow, ...]:
    """Rows of probabilities per field and level, `missing` left out."""
    return tuple(
        LevelRow(field.name, level, round(m[at][number], 6), round(u[at][number], 6))
        for at, field in enumerate(FIELDS)
        for number, level in enumerate(field.levels)
        if number
    )
