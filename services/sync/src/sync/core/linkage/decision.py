"""The verdict on a pair: one person, two persons, or a question for a person; with its reasons and no patient values.

In this order: a veto, an identifier that proves, hopeless pairs, the sum of the weights against two thresholds, guards.
A veto names what two records of one person cannot show. A guard keeps a pair from being joined by the machine although
the sum would say so, because the evidence that is left is shared by a household: twins have the family name, the
birthday, the telephone and the address in common, father and son all but the birthday.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sync.core.linkage.compare import vector
from sync.core.linkage.defaults import DEFAULT_MODEL
from sync.core.linkage.fields import FIELDS, LEVEL_OF, Vector
from sync.core.linkage.identifiers import RULES_BY_SYSTEM
from sync.core.linkage.model import Model
from sync.core.linkage.person import Person

VERDICTS_MAX: Final = 100_000
POPULATION: Final = 50_000


class Outcome(StrEnum):
    """What a pair is."""

    MATCH = "match"
    REVIEW = "review"
    NO_MATCH = "no-match"


@dataclass(frozen=True, slots=True)
class Finding:
    """One field: the level at which it agrees and what that weighs, in bits."""

    field: str
    level: str
    bits: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` decided: `score`, `identifier`, or the name of a veto or guard. `findings` explain `bits`, their sum."""

    outcome: Outcome
    bits: float
    rule: str
    findings: tuple[Finding, ...]
    vetoed: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on two records."""

    left: str
    right: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """A row: when every field named in `when` is at one of its levels and none named in `unless` is, the pair is at
    most `outcome`."""

    name: str
    outcome: Outcome
    when: tuple[tuple[str, str], ...]
    unless: tuple[tuple[str, str], ...] = ()


VETOES: Final = (
    Rule("veto-other-identifier", Outcome.NO_MATCH, (("identifier", "other-person"),)),
    Rule("veto-sex-and-birth", Outcome.NO_MATCH, (("sex", "differs"), ("birth", "differs"))),
    Rule("veto-identifiers-contradict", Outcome.REVIEW, (("identifier", "contradicts"),)),
    # One side may have learnt of the death first: a person says, nobody else.
    Rule("veto-deceased", Outcome.REVIEW, (("life", "differs"),)),
)
PROOF: Final = Rule("identifier", Outcome.MATCH, (("identifier", "proves"),))
# An identifier that proves beside a person who is somebody else: the wrong chart was open.
PROOF_DOUBTS: Final = (
    Rule("guard-identifier-other-person", Outcome.REVIEW, (("birth", "differs near"), ("given", "differs"))),
    Rule("guard-identifier-other-name", Outcome.REVIEW, (("family", "differs"), ("given", "differs"))),
    Rule("guard-identifier-other-birth", Outcome.REVIEW, (("family", "differs"), ("birth", "differs"))),
    Rule("guard-identifier-generation", Outcome.REVIEW, (("generation", "differs"),)),
)
_AGREES: Final = (("identifier", "same slip proves contradicts"),)
# People of one household, or namesakes: whatever else they share, they are two.
HOPELESS: Final = (
    Rule("hopeless-given-and-birth", Outcome.NO_MATCH, (("given", "differs"), ("birth", "differs")), _AGREES),
    Rule("hopeless-names", Outcome.NO_MATCH, (("given", "differs"), ("family", "differs")), _AGREES),
    Rule("hopeless-family-and-birth", Outcome.NO_MATCH, (("family", "differs"), ("birth", "differs")), _AGREES),
)
_IDENTIFIED: Final = (("identifier", "same"),)
# The number that is typed in for a child is often the guarantor's: it does not outweigh another given name or birthday.
GUARDS: Final = (
    Rule("guard-given-differs", Outcome.REVIEW, (("given", "differs"),)),
    Rule("guard-given-unknown", Outcome.REVIEW, (("given", "missing"),), _IDENTIFIED),
    Rule("guard-family-unknown", Outcome.REVIEW, (("family", "missing"), ("birth", "missing")), _IDENTIFIED),
    Rule("guard-birth-differs", Outcome.REVIEW, (("birth", "differs"),)),
    Rule("guard-birth-near", Outcome.REVIEW, (("birth", "near"),), _IDENTIFIED),
    Rule("guard-name-and-birth-alone", Outcome.REVIEW, (("identifier", "missing differs"), ("phone", "missing differs"),
         ("email", "missing differs"), ("street", "missing differs other-number"), ("place", "missing differs close"))),
    Rule("guard-birth-unknown", Outcome.REVIEW, (("birth", "missing"),), _IDENTIFIED),
    Rule("guard-generation", Outcome.REVIEW, (("generation", "differs"),)),
    Rule("guard-sex-and-given", Outcome.REVIEW, (("sex", "differs"), ("given", "form close similar differs missing"))),
    # Twins are often given names that sound alike.
    Rule("guard-similar-given", Outcome.REVIEW, (("given", "similar"), ("birth", "same"), ("sex", "same"),
         ("family", "same")), _IDENTIFIED),
)  # fmt: skip

_RANK: Final = {Outcome.NO_MATCH: 0, Outcome.REVIEW: 1, Outcome.MATCH: 2}


class Judge:
    """Verdicts by a model; remembers one per comparison vector, because most pairs look like many others."""

    def __init__(self, model: Model = DEFAULT_MODEL, population: int = POPULATION) -> None:
        """`population`: records in the larger of the two files; the more there are, the more agree by chance."""
        self.model = model
        self.match_bits, self.review_bits = model.thresholds(population)
        self._weights = model.weights()
        self._findings = tuple(
            tuple(
                Finding(field.name, level, round(self._weights[at][number], 2))
                for number, level in enumerate(field.levels)
            )
            for at, field in enumerate(FIELDS)
        )
        self._verdicts: dict[Vector, Verdict] = {}

    def verdict(self, pair: Vector) -> Verdict:
        """The verdict on a comparison vector."""
        found = self._verdicts.get(pair)
        if found is None:
            found = self._decide(pair)
            if len(self._verdicts) < VERDICTS_MAX:
                self._verdicts[pair] = found
        return found

    def decide(self, one: Person, other: Person) -> Decision:
        """The verdict on two persons."""
        return Decision(one.record_id, other.record_id, self.verdict(vector(one, other, RULES_BY_SYSTEM)))

    def _decide(self, pair: Vector) -> Verdict:
        bits = round(sum(self._weights[at][level] for at, level in enumerate(pair)), 3)
        findings = tuple(self._findings[at][level] for at, level in enumerate(pair) if level)
        scored = Outcome.NO_MATCH
        if bits >= self.review_bits:
            scored = Outcome.MATCH if bits >= self.match_bits else Outcome.REVIEW
        veto = _first(VETOES, pair)
        if veto is not None:
            proven = _applies(PROOF, pair) or pair[0] == LEVEL_OF["identifier", "contradicts"]
            outcome = min(veto.outcome, Outcome.MATCH if proven else scored, key=_RANK.__getitem__)
            return Verdict(outcome, bits, veto.name, findings, vetoed=True)
        if _applies(PROOF, pair):
            doubt = _first(PROOF_DOUBTS, pair)
            rule, outcome = (doubt.name, doubt.outcome) if doubt else (PROOF.name, PROOF.outcome)
            return Verdict(outcome, bits, rule, findings)
        hopeless = _first(HOPELESS, pair)
        if hopeless is not None:
            return Verdict(hopeless.outcome, bits, hopeless.name, findings)
        guard = _first(GUARDS, pair) if scored is Outcome.MATCH else None
        if guard is not None:
            return Verdict(guard.outcome, bits, guard.name, findings)
        return Verdict(scored, bits, "score", findings)


def _first(rules: tuple[Rule, ...], pair: Vector) -> Rule | None:
    return next((rule for rule in rules if _applies(rule, pair)), None)


def _applies(rule: Rule, pair: Vector) -> bool:
    when = all(_at(pair, field, levels) for field, levels in rule.when)
    return when and not any(_at(pair, field, levels) for field, levels in rule.unless)


_POSITIONS: Final = {field.name: number for number, field in enumerate(FIELDS)}


def _at(pair: Vector, field: str, levels: str) -> bool:
    return pair[_POSITIONS[field]] in {LEVEL_OF[field, level] for level in levels.split()}
