"""Estimating m and u: counted where the truth is known, by expectation–maximisation where it is not.

A. P. Dempster, N. M. Laird, D. B. Rubin, JRSS B 39 (1977), on the mixture of W. E. Winkler (1988): a pair is of one
person with probability `share`, and given that its fields are independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

from sync.core.linkage.fields import FIELDS, Vector
from sync.core.linkage.model import LevelRow, rows_of

ROUNDS_MAX: Final = 200
CHANGE_MIN: Final = 1e-6
# Added to every level, so that what was never seen is rare and not impossible.
PSEUDO_COUNT: Final = 0.5

Table = list[list[float]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What was found: rows, the share of pairs that are one person, rounds, and whether it had settled by then."""

    rows: tuple[LevelRow, ...]
    share: float
    rounds: int
    settled: bool


def counted(same: Iterable[Vector], different: Iterable[Vector]) -> tuple[LevelRow, ...]:
    """m and u as counted in pairs whose truth is known."""
    return rows_of(_normalised(_sums(Counter(same))), _normalised(_sums(Counter(different))))


def estimate(pairs: Iterable[Vector], start: Sequence[LevelRow], share: float = 0.1) -> Estimate:
    """m and u of pairs whose truth is not known, from `start` on; in memory one entry per pattern, not per pair.

    `pairs` are candidates of the blocking, or a sample of them; raises ValueError when there are none, or for a share
    outside 0–1.
    """
    patterns = Counter(pairs)
    if not patterns or not 0.0 < share < 1.0:
        raise ValueError("an estimate needs at least one pair, and a share between 0 and 1")
    m, u = _tables(start)
    total = sum(patterns.values())
    for round_number in range(1, ROUNDS_MAX + 1):
        expected = {pattern: _posterior(pattern, m, u, share) for pattern in patterns}
        ones = {pattern: count * expected[pattern] for pattern, count in patterns.items()}
        m, u = (
            _normalised(_sums(ones)),
            _normalised(_sums({pattern: count - ones[pattern] for pattern, count in patterns.items()})),
        )
        before, share = share, min(max(sum(ones.values()) / total, 1e-9), 1 - 1e-9)
        if abs(share - before) < CHANGE_MIN:
            return Estimate(rows_of(m, u), share, round_number, True)
    return Estimate(rows_of(m, u), share, ROUNDS_MAX, False)


def _tables(rows: Sequence[LevelRow]) -> tuple[Table, Table]:
    m = [[1.0] * len(field.levels) for field in FIELDS]
    u = [[1.0] * len(field.levels) for field in FIELDS]
    at = {field.name: number for number, field in enumerate(FIELDS)}
    for row in rows:
        level = FIELDS[at[row.field]].levels.index(row.level)
        m[at[row.field]][level] = row.m
        u[at[row.field]][level] = row.u
    return _normalised(m, 0.0), _normalised(u, 0.0)


def _posterior(pattern: Vector, m: Table, u: Table, share: float) -> float:
    odds = log(share) - log(1 - share)
    for at, level in enumerate(pattern):
        if level:
            odds += log(m[at][level]) - log(u[at][level])
    return 1 / (1 + exp(-max(min(odds, 700.0), -700.0)))


def _sums(patterns: Mapping[Vector, float]) -> Table:
    sums = [[0.0] * len(field.levels) for field in FIELDS]
    for pattern, count in patterns.items():
        for at, level in enumerate(pattern):
            sums[at][level] += count
    return sums


def _normalised(table: Table, pseudo_count: float = PSEUDO_COUNT) -> Table:
    """Shares per field over the levels other than `missing`."""
    found = []
    for counts in table:
        raised = [count + pseudo_count if number else 0.0 for number, count in enumerate(counts)]
        total = sum(raised)
        found.append([count / total for count in raised])
    return found
