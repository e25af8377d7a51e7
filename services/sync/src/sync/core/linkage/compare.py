"""The comparison vector of two persons. Symmetric: the order of the two says nothing.

Written for speed, because a bulk match calls it a hundred thousand times: equality is tried first, and what two
strings look like is computed once (rapidfuzz) and remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from rapidfuzz.distance import OSA, JaroWinkler

from sync.core.linkage.address import Place
from sync.core.linkage.dates import one_slip, swapped
from sync.core.linkage.fields import MISSING, SAME, Vector
from sync.core.linkage.identifiers import RULES_BY_SYSTEM, IdentifierRule
from sync.core.linkage.letters import script_of
from sync.core.linkage.nicknames import same_person_names
from sync.core.linkage.person import Person

CACHE_ENTRIES_MAX: Final = 262_144
_CLOSE: Final = 0.93
_SIMILAR: Final = 0.85
_STREET_CLOSE: Final = 0.90
# Under this length one other letter is another name (Li, Lu; most Han names).
_FUZZY_CHARACTERS_MIN: Final = 3

_NAME_FORM: Final = 2
_NAME_CLOSE: Final = 3
_NAME_SIMILAR: Final = 4
_NAME_TRANSPOSED: Final = 5
_NAME_DIFFERS: Final = 6
_ID_SLIP: Final = 2
_ID_DIFFERS: Final = 3
_ID_OTHER: Final = 4
_ID_PROVES: Final = 5
_ID_CONTRADICTS: Final = 6
# What says most about a pair that has several identifiers: proof of another person, then proof, then the rest.
_ID_ORDER: Final = (MISSING, _ID_DIFFERS, _ID_SLIP, SAME, _ID_PROVES, _ID_OTHER)
_ID_AGREES: Final = frozenset({SAME, _ID_SLIP, _ID_PROVES, _ID_CONTRADICTS})
_BIRTH_PARTIAL: Final = 2
_BIRTH_SWAPPED: Final = 3
_BIRTH_SLIP: Final = 4
_BIRTH_NEAR: Final = 5
_BIRTH_DIFFERS: Final = 6


def vector(one: Person, other: Person, rules: Mapping[str, IdentifierRule] = RULES_BY_SYSTEM) -> Vector:
    """The level of each field, in the order of `FIELDS`; `rules` by identifier system."""
    if one.given == other.given and one.family == other.family and one.given and one.family:
        family, given = SAME, SAME
    else:
        family, given = _names(one, other)
    birth = _birth_level(one.birth, other.birth)
    identifier = _identifier(one, other, rules) if one.identifiers and other.identifiers else MISSING
    return _rest(one, other, identifier, family, given, birth)


def vector_unless_hopeless(
    one: Person, other: Person, rules: Mapping[str, IdentifierRule] = RULES_BY_SYSTEM
) -> Vector | None:
    """The same, but None as soon as two of given name, family name and birth date differ altogether and no identifier
    agrees: the rules `hopeless-…` of `decision` then say that it is no match, whatever the other fields say."""
    if one.given == other.given and one.family == other.family and one.given and one.family:
        family, given, birth = SAME, SAME, _birth_level(one.birth, other.birth)
        identifier = _identifier(one, other, rules) if one.identifiers and other.identifiers else MISSING
        return _rest(one, other, identifier, family, given, birth)
    birth = _birth_level(one.birth, other.birth)
    family, given = _names(one, other)
    identifier = _identifier(one, other, rules) if one.identifiers and other.identifiers else MISSING
    differing = (given == _NAME_DIFFERS) + (family == _NAME_DIFFERS) + (birth == _BIRTH_DIFFERS)
    if differing >= 2 and identifier not in _ID_AGREES:
        return None
    return _rest(one, other, identifier, family, given, birth)


def _rest(one: Person, other: Person, identifier: int, family: int, given: int, birth: int) -> Vector:
    sex = MISSING
    if one.sex and other.sex:
        sex = SAME if one.sex == other.sex else 2
    phone = MISSING
    if one.phones and other.phones:
        phone = SAME if one.phones == other.phones else _phone(one.phones, other.phones)
    email = MISSING
    if one.emails and other.emails:
        email = SAME if one.emails == other.emails or not set(one.emails).isdisjoint(other.emails) else 2
    street, place = _places(one.places, other.places) if one.places and other.places else (MISSING, MISSING)
    generation = MISSING
    if one.generation and other.generation:
        generation = SAME if one.generation == other.generation else 2
    life = MISSING
    if one.deceased is not None and other.deceased is not None:
        life = SAME if one.deceased == other.deceased else 2
    return identifier, family, given, birth, sex, phone, email, street, place, generation, life


def _birth_level(one: str, other: str) -> int:
    if one == other:
        return SAME if one else MISSING
    if not one or not other:
        return MISSING
    # Most pairs of strangers have neither the year nor month and day in common.
    if len(one) == len(other) == 8 and one[:4] != other[:4] and one[4:] != other[4:]:
        return _BIRTH_DIFFERS
    return _birth(one, other)


@lru_cache(CACHE_ENTRIES_MAX)
def _likeness(one: str, other: str) -> int:
    """How two different names look alike; called with the smaller one first, Jaro is not symmetric by itself."""
    if script_of(one) != script_of(other):
        return MISSING
    if min(len(one), len(other)) < _FUZZY_CHARACTERS_MIN:
        return _NAME_DIFFERS
    # Two edits of a long name, one of a short one.
    edits_max = 2 if min(len(one), len(other)) >= 7 else 1
    if OSA.distance(one, other, score_cutoff=edits_max) <= edits_max:
        return _NAME_CLOSE
    alike = JaroWinkler.similarity(one, other, score_cutoff=_SIMILAR)
    if alike >= _CLOSE:
        return _NAME_CLOSE
    return _NAME_SIMILAR if alike else _NAME_DIFFERS


def _alike(one: str, other: str) -> int:
    return _likeness(one, other) if one < other else _likeness(other, one)


def _names(one: Person, other: Person) -> tuple[int, int]:
    if one.given and other.given and one.family and other.family:
        crossed = one.family == other.given, one.given == other.family
        if crossed == (True, True) and one.family != other.family:
            return _NAME_TRANSPOSED, _NAME_TRANSPOSED
        # One of the two in the other's place and the second with a slip: transposed as well.
        if any(crossed) and one.family != other.family and one.given != other.given:
            rest = _alike(one.given, other.family) if crossed[0] else _alike(one.family, other.given)
            if rest in {_NAME_CLOSE, _NAME_SIMILAR}:
                return _NAME_TRANSPOSED, _NAME_TRANSPOSED
    return _family(one, other), _given(one, other)


def _family(one: Person, other: Person) -> int:
    if one.family == other.family:
        return SAME if one.family else MISSING
    if not one.family or not other.family:
        return MISSING
    if one.family in other.family_forms or other.family in one.family_forms:
        return _NAME_FORM
    if one.family_forms and other.family_forms and not one.family_forms.isdisjoint(other.family_forms):
        return _NAME_FORM
    return _alike(one.family, other.family)


def _given(one: Person, other: Person) -> int:
    if one.given == other.given:
        return SAME if one.given else MISSING
    if not one.given or not other.given:
        return MISSING
    if one.given in other.given_forms or other.given in one.given_forms:
        return _NAME_FORM
    return (
        _given_likeness(one.given, other.given) if one.given < other.given else _given_likeness(other.given, one.given)
    )


@lru_cache(CACHE_ENTRIES_MAX)
def _given_likeness(one: str, other: str) -> int:
    if (len(one) == 1 or len(other) == 1) and one[0] == other[0] and script_of(one) == "latin":
        return _NAME_FORM
    return _NAME_FORM if same_person_names(one, other) else _likeness(one, other)


@lru_cache(CACHE_ENTRIES_MAX)
def _birth(one: str, other: str) -> int:
    if len(one) != len(other):
        return _BIRTH_PARTIAL if one.startswith(other) or other.startswith(one) else _BIRTH_DIFFERS
    if len(one) == 8 and swapped(one) == other:
        return _BIRTH_SWAPPED
    if one_slip(one, other):
        return _BIRTH_SLIP
    if len(one) == 8 and (one[:4] == other[:4]) + (one[4:6] == other[4:6]) + (one[6:] == other[6:]) == 2:
        return _BIRTH_NEAR
    return _BIRTH_DIFFERS


def _phone(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    if len(one) == len(other) == 1:
        return _numbers(one[0], other[0])
    return min(_numbers(first, second) for first in one for second in other)


def _numbers(one: str, other: str) -> int:
    if one == other:
        return SAME
    # A slip leaves one of the two halves as it is.
    if (one[:7] != other[:7] and one[7:] != other[7:]) or not one_slip(one, other):
        return 3
    return 2


def _places(one: tuple[Place, ...], other: tuple[Place, ...]) -> tuple[int, int]:
    if one == other and len(one) == 1 and one[0].street and one[0].postal:
        return SAME, SAME
    if len(one) == len(other) == 1:
        return _place(one[0], other[0])
    # Of several addresses those two that agree best; absence is worse than agreement, better than a difference.
    pairs = [_place(first, second) for first in one for second in other]
    return min(pairs, key=_place_rank)


def _place_rank(levels: tuple[int, int]) -> tuple[float, float]:
    return levels[0] or 2.5, levels[1] or 1.5


def _place(one: Place, other: Place) -> tuple[int, int]:
    street = MISSING
    if one.street and other.street:
        alike = one.street == other.street
        close = alike or (
            _street_close(one.street, other.street)
            if one.street < other.street
            else _street_close(other.street, one.street)
        )
        number = one.number == other.number or not one.number or not other.number
        street = (1 if alike and one.number else 2) if close and number else 3 if close else 4
    if one.postal and other.postal and one.postal == other.postal:
        return street, SAME
    if one.city and other.city:
        # The postal code of the next district, or a slip in one of the two.
        if one.city == other.city or _alike(one.city, other.city) == _NAME_CLOSE:
            return street, SAME if not (one.postal and other.postal) else 2
        if one.postal and other.postal and one_slip(one.postal, other.postal):
            return street, 2
        return street, 3
    if one.postal and other.postal:
        return street, 2 if one_slip(one.postal, other.postal) else 3
    return street, MISSING


@lru_cache(CACHE_ENTRIES_MAX)
def _street_close(one: str, other: str) -> bool:
    return JaroWinkler.similarity(one, other, score_cutoff=_STREET_CLOSE) > 0


_ANY_SYSTEM: Final = IdentifierRule("", unique=False)


def _identifier(one: Person, other: Person, rules: Mapping[str, IdentifierRule]) -> int:
    found = MISSING
    if len(one.identifiers) == len(other.identifiers) == 1:
        (system, ours), (their_system, theirs) = one.identifiers[0], other.identifiers[0]
        return _of_system(rules.get(system, _ANY_SYSTEM), (ours,), (theirs,)) if system == their_system else MISSING
    for system in {name for name, _ in one.identifiers} & {name for name, _ in other.identifiers}:
        level = _of_system(
            rules.get(system, _ANY_SYSTEM),
            [value for name, value in one.identifiers if name == system],
            [value for name, value in other.identifiers if name == system],
        )
        if {found, level} == {_ID_PROVES, _ID_OTHER}:
            return _ID_CONTRADICTS
        if _ID_ORDER.index(level) > _ID_ORDER.index(found):
            found = level
    return found


def _of_system(rule: IdentifierRule, ours: Sequence[str], theirs: Sequence[str]) -> int:
    if any(value in theirs for value in ours):
        return SAME if rule.typed else _ID_PROVES
    if rule.typed:
        # Somebody else's number in its place (the guarantor's, the next line's) is as common as a slip: no veto.
        slip = any(OSA.distance(one, other, score_cutoff=1) <= 1 for one in ours for other in theirs)
        return _ID_SLIP if slip else _ID_DIFFERS
    return _ID_OTHER if rule.unique else MISSING
