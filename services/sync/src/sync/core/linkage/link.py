"""Two files of records: which of one is which of the other; and one file: who is in it twice.

Pairs are streamed: candidates of one record at a time, verdicts kept from review upwards. Memory holds the index of one
file and the decisions that somebody will look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sync.core.linkage.blocking import Index, Oversize
from sync.core.linkage.compare import vector_unless_hopeless
from sync.core.linkage.decision import Decision, Judge, Outcome
from sync.core.linkage.defaults import DEFAULT_MODEL
from sync.core.linkage.model import Model
from sync.core.linkage.person import Person

CONTEST_BITS: Final = 3.0
"""Two partners of one record whose scores are nearer than this are a question for a person."""


@dataclass(frozen=True, slots=True)
class Linkage:
    """`matches` are one to one; `reviews` are for a person. `compared` pairs were looked at; `oversize` blocks were
    split or left out in part."""

    matches: tuple[Decision, ...]
    reviews: tuple[Decision, ...]
    compared: int
    oversize: tuple[Oversize, ...]


def scored_pairs(left: Iterable[Person], index: Index, judge: Judge) -> Iterator[Decision | int]:
    """Decisions from review upwards, and after each record of `left` the number of pairs it was compared in."""
    people = index.people
    verdict = judge.verdict
    for one in left:
        near = index.near(one)
        for number in near:
            pair = vector_unless_hopeless(one, people[number])
            if pair is None:
                continue
            found = verdict(pair)
            if found.outcome is not Outcome.NO_MATCH:
                yield Decision(one.record_id, people[number].record_id, found)
        yield len(near)


def link(left: Sequence[Person], right: Sequence[Person], model: Model = DEFAULT_MODEL) -> Linkage:
    """Match two files one to one; record ids are unique within each file."""
    judge = Judge(model, max(len(left), len(right)))
    index = Index()
    for person in right:
        index.add(person)
    oversize = index.settle()
    found: list[Decision] = []
    compared = 0
    for item in scored_pairs(left, index, judge):
        if isinstance(item, int):
            compared += item
        else:
            found.append(item)
    matches, reviews = one_to_one(found)
    return Linkage(matches, reviews, compared, tuple(oversize))


def one_to_one(found: Iterable[Decision]) -> tuple[tuple[Decision, ...], tuple[Decision, ...]]:
    """Matches in which every record occurs once, best first; and reviews: those of `found`, and matches that another
    one contests or has taken the partner of."""
    ordered = sorted(found, key=_best_first)
    best_left: dict[str, Decision] = {}
    best_right: dict[str, Decision] = {}
    matches, reviews = [], []
    contested: set[tuple[str, str]] = set()
    for one in ordered:
        if one.verdict.outcome is not Outcome.MATCH:
            reviews.append(one)
            continue
        rivals = [rival for rival in (best_left.get(one.left), best_right.get(one.right)) if rival is not None]
        if not rivals:
            best_left[one.left] = best_right[one.right] = one
            matches.append(one)
            continue
        reviews.append(_contested(one))
        contested.update(
            (rival.left, rival.right) for rival in rivals if _strength(rival) - _strength(one) < CONTEST_BITS
        )
    kept = tuple(one for one in matches if (one.left, one.right) not in contested)
    reviews += [_contested(one) for one in matches if (one.left, one.right) in contested]
    return kept, tuple(sorted(reviews, key=_best_first))


def duplicates(people: Sequence[Person], model: Model = DEFAULT_MODEL) -> Linkage:
    """Pairs of one file that are one person; a record may occur in several of them (see `cluster`)."""
    judge = Judge(model, len(people))
    index = Index()
    for person in people:
        index.add(person)
    oversize = index.settle()
    found: list[Decision] = []
    compared = 0
    for number, one in enumerate(people):
        for at in index.near(one):
            if at > number:
                compared += 1
                pair = vector_unless_hopeless(one, people[at])
                decision = judge.verdict(pair) if pair is not None else None
                if decision is not None and decision.outcome is not Outcome.NO_MATCH:
                    found.append(Decision(one.record_id, people[at].record_id, decision))
    found.sort(key=_best_first)
    return Linkage(
        tuple(one for one in found if one.verdict.outcome is Outcome.MATCH),
        tuple(one for one in found if one.verdict.outcome is Outcome.REVIEW),
        compared,
        tuple(oversize),
    )


def _strength(one: Decision) -> float:
    # An identifier that proves is decided before any score.
    return one.verdict.bits + (1_000.0 if one.verdict.rule == "identifier" else 0.0)


def _best_first(one: Decision) -> tuple[float, str, str]:
    return -_strength(one), one.left, one.right


def _contested(one: Decision) -> Decision:
    return replace(one, verdict=replace(one.verdict, outcome=Outcome.REVIEW, rule="contested"))
