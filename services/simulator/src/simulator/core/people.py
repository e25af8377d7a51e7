"""The patients of a practice, made when they are asked for: only their ids are kept, and the last few thousand people.

A patient is a function of the practice's seed and an index, so a practice of a hundred thousand costs its ids and no
more, and the same index is always the same person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from simulator.core.practice import Patient

KEPT_PATIENTS_MAX: Final = 5_000
ADMITTED_MAX: Final = 5_000


class People(Mapping[str, "Patient"]):
    """Patient by FHIR id, in the order of their indexes. `make` makes the patient of an index."""

    def __init__(self, ids: tuple[str, ...], make: Callable[[int], Patient]) -> None:
        self._index = {patient_id: index for index, patient_id in enumerate(ids)}
        self._ids = list(ids)
        self._made = len(ids)
        self._make = make
        self._kept: dict[int, Patient] = {}

    def __getitem__(self, patient_id: str) -> Patient:
        return self.at(self._index[patient_id])

    def __contains__(self, patient_id: object) -> bool:
        return patient_id in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, index: int) -> Patient:
        """The patient of an index; raises IndexError outside 0 to the number of patients."""
        found = self._kept.get(index)
        if found is None:
            if not 0 <= index < len(self._ids):
                raise IndexError(index)
            while len(self._kept) >= KEPT_PATIENTS_MAX:
                del self._kept[next(iter(self._kept))]
            found = self._kept[index] = self._make(index)
        return found

    def admit(self, id_of: Callable[[int], str]) -> Patient | None:
        """One more, the patient of the next index, whose id is `id_of` it; None over `ADMITTED_MAX` of them."""
        index = len(self._ids)
        if index - self._made >= ADMITTED_MAX:
            return None
        patient_id = id_of(index)
        self._ids.append(patient_id)
        self._index[patient_id] = index
        return self.at(index)

    def index_of(self, patient_id: str) -> int:
        """The index of a patient; raises KeyError for nobody."""
        return self._index[patient_id]
