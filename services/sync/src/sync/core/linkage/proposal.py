"""What to do about records that are one person, or turned out not to be: values to be decided on, nothing is done here.

A merge keeps one record and retires the others into it, as FHIR R4 Patient.link says it (replaces, replaced-by) and
HL7 v2 ADT^A40; an un-merge takes a record out of a group again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sync.core.linkage.cluster import cluster
from sync.core.linkage.decision import Decision


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a record of a group: when it was made here, and how many cross-references lead to it."""

    record_id: str
    created: datetime
    cross_references: int


@dataclass(frozen=True, slots=True)
class MergeProposal:
    """`retired` are to be merged into `survivor`; `because` names the rule that told it from the others; `evidence`
    are the decisions within the group."""

    survivor: str
    retired: tuple[str, ...]
    because: str
    evidence: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class UnmergeProposal:
    """`released` are to be taken out of the group of `survivor`, in groups that stay together; `evidence` are the
    decisions that say so."""

    survivor: str
    released: tuple[tuple[str, ...], ...]
    evidence: tuple[Decision, ...]


# In order; each says what is best by the largest value.
_RULES: Final[tuple[tuple[str, Callable[[Candidate], float]], ...]] = (
    ("oldest", lambda one: -one.created.timestamp()),
    ("most-cross-references", lambda one: one.cross_references),
)


def propose_merge(group: Sequence[Candidate], decisions: Iterable[Decision]) -> MergeProposal:
    """Who survives: the oldest record, of equally old ones that with most cross-references, then the first id.

    Raises ValueError for a group of fewer than two records, or with one twice.
    """
    ids = {one.record_id for one in group}
    if len(ids) != len(group) or len(group) < 2:
        raise ValueError("a merge needs two or more different records")
    left, because = list(group), "first-id"
    for name, rank in _RULES:
        best = max(map(rank, left))
        left = [one for one in left if rank(one) == best]
        if len(left) == 1:
            because = name
            break
    survivor = min(one.record_id for one in left)
    evidence = tuple(one for one in decisions if one.left in ids and one.right in ids)
    return MergeProposal(survivor, tuple(sorted(ids - {survivor})), because, evidence)


def propose_unmerge(survivor: str, retired: Sequence[str], decisions: Iterable[Decision]) -> UnmergeProposal | None:
    """Whether records that were merged still belong together by new decisions on them (all pairs of the group); None
    when nothing speaks against it.

    A pair of which a veto says that it is two persons splits the group: those go who are not joined to the survivor.
    """
    ids = {survivor, *retired}
    within = [one for one in decisions if one.left in ids and one.right in ids]
    against = tuple(one for one in within if one.verdict.vetoed)
    if not against:
        return None
    groups = cluster(within).groups
    stays = next((set(group) for group in groups if survivor in group), {survivor})
    together = [group for group in groups if survivor not in group]
    alone = ids - stays - {record_id for group in together for record_id in group}
    released = tuple(sorted([*together, *((record_id,) for record_id in alone)]))
    return UnmergeProposal(survivor, released, against) if released else None
