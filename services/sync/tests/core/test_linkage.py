"""Matching as a practice meets it: who is joined, who is asked about, who is kept apart; what holds for any."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.models.records import Address, ContactPoint, HumanName, Identifier, Patient
from sync.core.linkage.address import place_of, street_words
from sync.core.linkage.blocking import Index, blocking_keys, candidates
from sync.core.linkage.cluster import cluster
from sync.core.linkage.compare import vector, vector_unless_hopeless
from sync.core.linkage.contact import email_key, phone_key
from sync.core.linkage.decision import Decision, Judge, Outcome, Verdict
from sync.core.linkage.defaults import DEFAULT_ROWS
from sync.core.linkage.estimate import counted, estimate
from sync.core.linkage.fields import FIELDS, LEVEL_OF
from sync.core.linkage.identifiers import US_SSN, identifier_value
from sync.core.linkage.letters import fold
from sync.core.linkage.link import duplicates, link
from sync.core.linkage.names import family_name
from sync.core.linkage.person import Person, person_of
from sync.core.linkage.proposal import Candidate, propose_merge, propose_unmerge
from sync.core.linkage.synthetic import changed, patient, people

MRN = "https://clinic.example/mrn"
NHS = "https://fhir.nhs.uk/Id/nhs-number"
BASE = {
    "family": "Rivera", "given": ("Alma", "Quinn"), "birth": "1980-02-14", "sex": "female", "phone": "217-555-0101",
    "line": "100 Main Street", "postal": "62701", "city": "Springfield",
}  # fmt: skip


def person(record_id: str = "1", **changes: object) -> Person:
    fields: dict = {
        **BASE,
        "maiden": None,
        "ssn": None,
        "mrn": None,
        "nhs": None,
        "suffix": (),
        "dead": None,
        **changes,
    }
    names = [HumanName(family=fields["family"], given=fields["given"], suffix=fields["suffix"])]
    if fields["maiden"]:
        names.append(HumanName(use="maiden", family=fields["maiden"]))
    systems = ((US_SSN, fields["ssn"]), (MRN, fields["mrn"]), (NHS, fields["nhs"]))
    return person_of(
        record_id,
        Patient(
            names=tuple(names),
            birth_date=fields["birth"],
            gender=fields["sex"],
            deceased=fields["dead"],
            telecom=(ContactPoint(system="phone", value=fields["phone"]),) if fields["phone"] else (),
            addresses=(Address(line=(fields["line"],), city=fields["city"], postal_code=fields["postal"]),)
            if fields["line"]
            else (),
            identifiers=tuple(Identifier(system=system, value=value) for system, value in systems if value),
        ),
        "US",
    )


CASES = [
    ("the same", {}, {}, Outcome.MATCH),
    ("short street type, telephone in another notation", {}, {"line": "100 MAIN ST.", "phone": "+1 (217) 555 0101"},
     Outcome.MATCH),
    ("day and month exchanged", {"birth": "1980-02-04"}, {"birth": "1980-04-02"}, Outcome.MATCH),
    ("one digit of the birth date", {}, {"birth": "1981-02-14"}, Outcome.MATCH),
    ("nickname", {"given": ("Robert",), "sex": "male"}, {"given": ("Bob",), "sex": "male"}, Outcome.MATCH),
    ("names exchanged", {}, {"family": "Alma", "given": ("Rivera",)}, Outcome.MATCH),
    ("maiden name known", {"family": "Stone", "maiden": "Rivera"}, {}, Outcome.MATCH),
    ("half of a double name", {"family": "Rivera-Stone"}, {}, Outcome.MATCH),
    ("diacritics", {"family": "Núñez", "given": ("Álma",)}, {"family": "NUNEZ", "given": ("ALMA",)}, Outcome.MATCH),
    ("Cyrillic and Latin", {"family": "Иванова", "given": ("Ольга",)}, {"family": "Ivanova", "given": ("Olga",)},
     Outcome.MATCH),
    ("moved, the same number of the register", {"mrn": "77"}, {"mrn": "0077", "line": None, "phone": None},
     Outcome.MATCH),
    ("name and birthday alone", {}, {"line": None, "phone": None}, Outcome.REVIEW),
    ("no given name: a twin cannot be told", {}, {"given": ()}, Outcome.REVIEW),
    ("twins of one telephone and address", {}, {"given": ("Elena",)}, Outcome.REVIEW),
    ("twins with numbers one after the other", {"ssn": "999-00-1234"}, {"given": ("Elena",), "ssn": "999-00-1235"},
     Outcome.REVIEW),
    ("twins under the guarantor's number", {"ssn": "999-00-1234"}, {"given": ("Elena",), "ssn": "999-00-1234"},
     Outcome.REVIEW),
    ("father and son under one number", {"sex": "male", "given": ("John",), "ssn": "999-00-1234"},
     {"sex": "male", "given": ("John",), "birth": "2004-09-30", "ssn": "999-00-1234"}, Outcome.REVIEW),
    ("twin brother and sister with like names", {"given": ("Daniel",), "sex": "male"}, {"given": ("Danielle",)},
     Outcome.REVIEW),
    ("Jr. and Sr.", {"suffix": ("Jr.",)}, {"suffix": ("Sr.",)}, Outcome.REVIEW),
    ("father and son of one name", {"sex": "male", "given": ("John",)},
     {"sex": "male", "given": ("John",), "birth": "2004-09-30"}, Outcome.REVIEW),
    ("dead on one side", {"dead": True}, {"dead": False}, Outcome.REVIEW),
    ("the wrong chart was open", {"mrn": "77"}, {"mrn": "77", "given": ("Peter",), "birth": "1950-07-31"},
     Outcome.REVIEW),
    ("spouses", {}, {"given": ("Peter",), "sex": "male", "birth": "1978-11-03"}, Outcome.NO_MATCH),
    ("sex and birth date", {"given": ("Robin",)}, {"given": ("Robin",), "sex": "male", "birth": "1951-07-30"},
     Outcome.NO_MATCH),
    ("two values of a number that a person has once", {"nhs": "9434765919"}, {"nhs": "9434765870"}, Outcome.NO_MATCH),
    ("strangers", {}, {"family": "Stone", "given": ("Peter",), "birth": "1951-07-30", "line": None, "phone": None},
     Outcome.NO_MATCH),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "outcome"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases_of_a_practice(one: dict, other: dict, outcome: Outcome) -> None:
    decision = Judge().decide(person(**one), person("2", **other))
    assert decision.verdict.outcome is outcome, decision


def test_a_decision_explains_itself_without_patient_values() -> None:
    decision = Judge().decide(person(ssn="999-00-1234"), person("2", given=("Bob",)))
    assert sum(one.bits for one in decision.verdict.findings) == pytest.approx(decision.verdict.bits, abs=0.1)
    assert {"family", "given", "birth"} <= {one.field for one in decision.verdict.findings}
    for value in ("rivera", "alma", "19800214", "5550101", "main"):
        assert value not in repr(decision).lower()
        assert value not in repr(person()).lower()


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("O’Brien", "obrien"), ("ÅNGSTRÖM", "angstrom"), ("Straße", "strasse"), ("Щукин", "shchukin"),
        ("Γεωργίου", "georgiou"), ("أحمد", "احمد"), ("ヤマダ", "やまだ"), ("ﾔﾏﾀﾞ", "やまだ"), ("王小明", "王小明"),
        ("김", "김"), ("", ""), ("!!", ""),
    ],
)  # fmt: skip
def test_letters(text: str, folded: str) -> None:
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


def test_names_addresses_and_contacts() -> None:
    assert family_name("de la Cruz-Ortiz").key == "cruzortiz"
    assert {"cruz", "ortiz", "delacruzortiz"} <= family_name("de la Cruz-Ortiz").forms
    assert family_name("Le").key == "le"
    assert family_name("UNKNOWN").key == ""
    assert street_words("100 North Main Street Apt 7") == ("100", "n main st", "7")
    assert street_words("3/12 High Street") == ("12", "high st", "3")
    assert street_words("Hauptstraße 5") == ("5", "haupt st", "")
    assert street_words("PO Box 17") == ("17", "pobox", "")
    assert place_of((), "62701-1234", None).postal == "62701"
    assert phone_key("(217) 555-0101", "US") == phone_key("+1 217 555 0101", "GB") == "+12175550101"
    assert phone_key("020 7946 0018", "GB") == "+442079460018"
    assert phone_key("999-999-9999", "US") == phone_key("call me", "US") == ""
    assert email_key(" Alma.Rivera+x@Gmail.com") == "almarivera@gmail.com"
    assert email_key("none") == ""
    assert identifier_value("999-99-9999") == identifier_value("123-45-6789") == ""


ANYBODY = st.builds(lambda seed: _pair(random.Random(seed)), st.integers(0, 1_000_000))


def _pair(chance: random.Random) -> tuple[Person, Person]:
    """Two records of one person, of one household, or of strangers."""
    lives = people(6, chance)
    other = changed(chance.choice(lives), chance)
    return person_of("a", patient(lives[0]), "US"), person_of("b", patient(other), "US")


@given(ANYBODY)
@settings(deadline=None)
def test_the_order_of_two_records_says_nothing(pair: tuple[Person, Person]) -> None:
    one, other = pair
    assert vector(one, other) == vector(other, one)
    early = vector_unless_hopeless(one, other)
    if early is None:
        assert Judge().verdict(vector(one, other)).outcome is Outcome.NO_MATCH
    else:
        assert early == vector(one, other)


def test_the_order_of_files_says_nothing_and_every_record_is_matched_once() -> None:
    chance = random.Random(5)
    lives = people(300, chance)
    left = [person_of(f"l{number}", patient(life), "US") for number, life in enumerate(lives)]
    right = [person_of(f"r{number}", patient(changed(life, chance)), "US") for number, life in enumerate(lives)]
    found = link(left, right)
    chance.shuffle(left)
    chance.shuffle(right)
    again = link(left, right)
    assert set(found.matches) == set(again.matches)
    assert set(found.reviews) == set(again.reviews)
    assert len({one.left for one in found.matches}) == len({one.right for one in found.matches}) == len(found.matches)
    assert all(one.left[1:] == one.right[1:] for one in found.matches)
    assert len(found.matches) > 270


def test_a_partner_that_two_claim_is_a_question() -> None:
    found = link([person("1")], [person("2"), person("3")])
    assert found.matches == ()
    assert {one.verdict.rule for one in found.reviews} == {"contested"}


def test_duplicates_of_one_file() -> None:
    found = duplicates([person("1"), person("2"), person("3", given=("Elena",))])
    assert [(one.left, one.right) for one in found.matches] == [("1", "2")]
    assert {one.right for one in found.reviews} == {"3"}


def test_an_index_as_rows_finds_candidates() -> None:
    index = Index()
    index.add(person("2"))
    index.add(person("3", family="Stone", given=("Peter",), birth="1951-07-30", line=None, phone=None))
    table: dict[str, list[str]] = {}
    for key, record_id in index.rows():
        table.setdefault(key, []).append(record_id)
    assert candidates(person("1", given=("Alna",)), table) == ["2"]
    assert candidates(person("2"), table) == []
    assert {key.partition("|")[0] for key in blocking_keys(person(mrn="7"))} == set("bgnfiph")


def test_an_oversize_block_is_split_and_what_is_left_out_is_reported() -> None:
    home = {"phone": None, "postal": "62701"}
    index = Index(block_records_max=3)
    for number in range(8):
        year = 1950 + number % 4
        index.add(
            person(str(number), given=(f"{'ABCD'[number % 4]}x{number}",), birth=f"{year}-01-{number + 1:02}", **home)
        )
    for number in range(8, 12):
        index.add(person(str(number), given=("Zoe",), birth=None, **home))
    found = {one.prefix: one for one in index.settle()}
    assert (found["h"].records, found["h"].left_out) == (12, 4)
    assert index.near(person("x", given=("Axel",), birth="1950-03-03", **home)) == {0, 4}


def _verdict(outcome: Outcome, bits: float = 30.0, *, vetoed: bool = False) -> Verdict:
    return Verdict(outcome, bits, "score", (), vetoed)


@given(st.dictionaries(
    st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1]),
    st.tuples(st.sampled_from(Outcome), st.integers(0, 40)), max_size=20,
), st.randoms(use_true_random=False))  # fmt: skip
def test_a_group_never_holds_two_that_were_not_matched(pairs: dict, chance: random.Random) -> None:
    decisions = [
        Decision(str(one), str(other), _verdict(outcome, float(bits)))
        for (one, other), (outcome, bits) in pairs.items()
    ]
    found = cluster(decisions)
    groups = [set(group) for group in found.groups]
    for one in decisions:
        together = any({one.left, one.right} <= group for group in groups)
        assert together == (one.verdict.outcome is Outcome.MATCH and one not in found.refused)
    shuffled = [replace(one, left=one.right, right=one.left) if chance.random() < 0.5 else one for one in decisions]
    chance.shuffle(shuffled)
    assert cluster(shuffled).groups == found.groups


def test_a_chain_does_not_join_through_a_review() -> None:
    chain = [Decision("1", "2", _verdict(Outcome.MATCH, 40)), Decision("2", "3", _verdict(Outcome.MATCH, 30))]
    assert cluster(chain).groups == (("1", "2", "3"),)
    found = cluster([*chain, Decision("1", "3", _verdict(Outcome.REVIEW, 20))])
    assert found.groups == (("1", "2"),)
    assert found.refused == (chain[1],)


def test_who_survives_a_merge_and_why() -> None:
    early, late = datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    match = Decision("1", "2", _verdict(Outcome.MATCH))
    oldest = propose_merge([Candidate("1", late, 9), Candidate("2", early, 1)], [match])
    assert (oldest.survivor, oldest.retired, oldest.because, oldest.evidence) == ("2", ("1",), "oldest", (match,))
    used = propose_merge([Candidate("1", early, 1), Candidate("2", early, 2)], [match])
    assert (used.survivor, used.because) == ("2", "most-cross-references")
    assert propose_merge([Candidate("2", early, 1), Candidate("1", early, 1)], []).because == "first-id"
    with pytest.raises(ValueError, match="two or more"):
        propose_merge([Candidate("1", early, 1)], [])


def test_a_merge_that_a_veto_speaks_against_is_taken_back() -> None:
    match = Decision("2", "3", _verdict(Outcome.MATCH))
    veto = Decision("1", "2", _verdict(Outcome.NO_MATCH, vetoed=True))
    assert propose_unmerge("1", ["2", "3"], [match]) is None
    proposal = propose_unmerge("1", ["2", "3"], [match, veto])
    assert proposal is not None
    assert (proposal.released, proposal.evidence) == ((("2", "3"),), (veto,))


def test_the_default_rows_are_those_of_the_generator() -> None:
    chance = random.Random(11)
    lives = people(3_000, chance)
    left = [person_of(str(number), patient(life), "US") for number, life in enumerate(lives)]
    right = [person_of(str(number), patient(changed(life, chance)), "US") for number, life in enumerate(lives)]
    same = [vector(one, other) for one, other in zip(left, right, strict=True)]
    different = [vector(one, right[number - 7]) for number, one in enumerate(left)]
    rows = {(row.field, row.level): row for row in counted(same, different)}
    for row in DEFAULT_ROWS:
        if row.level == "same" and row.field in {"family", "given", "birth", "phone", "street", "place"}:
            assert rows[row.field, row.level].m == pytest.approx(row.m, abs=0.05)
    assert {(row.field, row.level) for row in DEFAULT_ROWS} == {key for key in LEVEL_OF if key[1] != "missing"}


def test_probabilities_are_found_without_the_truth() -> None:
    chance = random.Random(12)
    lives = people(1_500, chance)
    left = [person_of(str(number), patient(life), "US") for number, life in enumerate(lives)]
    right = [person_of(str(number), patient(changed(life, chance)), "US") for number, life in enumerate(lives)]
    same = [vector(one, other) for one, other in zip(left, right, strict=True)]
    different = [vector(one, right[number - shift]) for shift in (3, 40, 500) for number, one in enumerate(left)]
    found = estimate(same + different, DEFAULT_ROWS)
    assert found.settled
    assert found.share == pytest.approx(0.25, abs=0.02)
    for truth, row in zip(counted(same, different), found.rows, strict=True):
        if truth.level == "same" and truth.field in {"family", "given", "birth"}:
            assert row.m == pytest.approx(truth.m, abs=0.03)
    for field in FIELDS:
        assert sum(row.m for row in found.rows if row.field == field.name) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(ValueError, match="at least one pair"):
        estimate([], DEFAULT_ROWS)
