"""Groups of records that are one person, from decisions on pairs.

Only matches join, the strongest first, and a join is refused when any record of one group and any of the other were
found to be two persons, or are a question that nobody has answered: what a chain of matches says never overrules what
was said of the pair.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sync.core.linkage.decision import Decision, Outcome


@dataclass(frozen=True, slots=True)
class Clustering:
    """`groups` of two or more record ids, each sorted; `refused` are matches whose groups may not be joined, a person
    has to look at them."""

    groups: tuple[tuple[str, ...], ...]
    refused: tuple[Decision, ...]


def cluster(decisions: Iterable[Decision]) -> Clustering:
    """Groups of `decisions`; vetoes and reviews among them keep groups apart. Their order does not matter."""
    matches: list[Decision] = []
    apart: dict[str, set[str]] = {}
    for one in decisions:
        if one.verdict.outcome is Outcome.MATCH:
            matches.append(one)
        else:
            apart.setdefault(one.left, set()).add(one.right)
            apart.setdefault(one.right, set()).add(one.left)
    matches.sort(key=lambda one: (-one.verdict.bits, *sorted((one.left, one.right))))
    group_of: dict[str, set[str]] = {}
    refused = []
    for one in matches:
        first, second = group_of.get(one.left, {one.left}), group_of.get(one.right, {one.right})
        if first is second:
            continue
        small, large = sorted((first, second), key=len)
        if any(not apart.get(record_id, set()).isdisjoint(large) for record_id in small):
            refused.append(one)
            continue
        large |= small
        group_of.update(dict.fromkeys(large, large))
    groups = {tuple(sorted(group)) for group in group_of.values() if len(group) > 1}
    return Clustering(tuple(sorted(groups)), tuple(refused))
