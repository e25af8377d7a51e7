"""Large practices: the same people whenever they are asked for, and little kept."""

import tracemalloc

import pytest

from simulator.core.people import KEPT_PATIENTS_MAX, People
from simulator.core.practice import make_practice


def test_a_patient_is_a_function_of_seed_and_index() -> None:
    large, small = (make_practice("big", 7, patients=count).patients for count in (KEPT_PATIENTS_MAX + 50, 30))
    first = [large.at(index) for index in range(30)]
    for patient_id in large:
        assert large[patient_id].id == patient_id
    assert [large.at(index) for index in range(30)] == first == list(small.values())
    assert [small.index_of(patient.id) for patient in first] == list(range(30))


def test_only_so_many_are_kept() -> None:
    made: list[int] = []
    practice = make_practice("kept", 7, patients=1)
    person = practice.patients.at(0)

    def make(index: int):
        made.append(index)
        return person

    people = People(tuple(str(number) for number in range(KEPT_PATIENTS_MAX + 1)), make)
    for index in range(len(people)):
        people.at(index)
    people.at(KEPT_PATIENTS_MAX)
    people.at(0)
    assert made == [*range(KEPT_PATIENTS_MAX + 1), 0], "the oldest one is made anew, the last one is kept"


@pytest.mark.parametrize("index", [-1, 3])
def test_nobody_beyond_the_last(index: int) -> None:
    with pytest.raises(IndexError):
        make_practice("demo", 7, patients=3).patients.at(index)


def test_a_hundred_thousand_patients_are_cheap() -> None:
    tracemalloc.start()
    practice = make_practice("big", 7, patients=20_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(practice.patients) == 20_000
    assert held / 20_000 < 500, "bytes a patient: 100,000 of them hold less than 50 MB"
