"""Two patients of a source are one (HL7 v2 ADT^A40, ADT^A34: MRG-1 is out of use, PID-3 stays; v2.5.1 §3.3.40, §3.6.2).

What was kept under the retired identifiers is not thrown away: the record stays, inactive and linked to the one that
replaces it (FHIR R4 Patient.link), so that a merge can be looked into and undone. The survivor gets the retired
identifiers, marked old, and everything that refers to the retired patient. From then on whatever comes under a retired
identifier belongs to the survivor.

A merge is a fact whenever it arrives, also before the messages about the patients, and also late; only what PID says
of the patient is subject to the order of times. Doing it again changes nothing. The reverse of a merge that was applied
is neither of two things for certain, so a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from common.models.records import Identifier, Patient, PatientLink, Reference
from sync.core.incoming import Incoming, Update
from sync.core.merge import merge
from sync.core.register import (
    Key,
    Register,
    key_of,
    keys_of,
    patient_references,
    store,
    survivor,
    with_patients,
)
from sync.core.rejection import MERGE_CYCLE, Rejection

_NOT_OF_THE_PERSON = frozenset({"identifiers", "links", "active"})


def refused_merge(
    register: Register, survivor_id: str, item: Incoming, retired: Sequence[Identifier]
) -> Rejection | None:
    """Why a merge into a record cannot be applied; None when it can, or there is none.

    The message calls the patient by an identifier that an earlier merge retired, and retires the one it went
    into.
    """
    stored = register.records[survivor_id].record
    in_use = keys_of(stored)
    if not retired or in_use & keys_of(item.record):
        return None
    backwards = any(_owner(register, key) == survivor_id and key in in_use for key in _keys(retired))
    return Rejection(MERGE_CYCLE, "MRG-1", "text") if backwards else None


def merge_patients(register: Register, item: Incoming, survivor_id: str, new_id: Callable[[str], str]) -> None:
    """Everything that the retired identifiers of an update lead to is the survivor's."""
    assert item.update is not None
    others = {_owner(register, key) for key in _keys(item.update.retired)} - {None, survivor_id}
    for other_id in sorted(one for one in others if one is not None):
        _merge_newer(register, item, survivor_id, other_id, new_id)
        _retire(register, item, survivor_id, other_id, new_id)
    _take_identifiers(register, item, survivor_id, sorted(one for one in others if one is not None), new_id)


def _keys(retired: Sequence[Identifier]) -> list[Key]:
    return [key for identifier in retired if (key := key_of(Patient.TYPE, identifier))]


def _owner(register: Register, key: Key) -> str | None:
    record_id = register.owners.get(key)
    return survivor(register, record_id) if record_id is not None else None


def _merge_newer(
    register: Register, item: Incoming, survivor_id: str, other_id: str, new_id: Callable[[str], str]
) -> None:
    """A message about the retired patient that is newer than all about the survivor came before the merge: had it come
    after, it would have been taken as the survivor's."""
    times = register.event_times
    newest, known = times.get((item.integration_id, other_id)), times.get((item.integration_id, survivor_id))
    if newest is None or item.event_time is None or newest <= item.event_time or (known and newest <= known):
        return
    stored, other = register.records[survivor_id], register.records[other_id].record
    carried = frozenset(other.document()) - _NOT_OF_THE_PERSON
    record = merge(stored.record, Update(other, carried, partial=True)).record
    store(register, replace(item, event_time=newest), stored, record, new_id)
    times[item.integration_id, survivor_id] = newest
    register.event_times_changed[item.integration_id, survivor_id] = newest


def _retire(register: Register, item: Incoming, survivor_id: str, other_id: str, new_id: Callable[[str], str]) -> None:
    stored = register.records[other_id]
    assert isinstance(stored.record, Patient)
    keys = keys_of(stored.record) | {key for key, owner in register.owners.items() if owner == other_id}
    link = PatientLink(other=Reference(type="Patient", record_id=survivor_id), type="replaced-by")
    after = stored.record.model_copy(update={"active": False, "links": (*stored.record.links, link)})
    store(register, item, stored, after, new_id)
    for key in keys:
        register.owners[key] = register.owners_added[key] = survivor_id
    _point_to(register, item, survivor_id, other_id, new_id)


def _point_to(
    register: Register, item: Incoming, survivor_id: str, other_id: str, new_id: Callable[[str], str]
) -> None:
    def changed(reference: Reference) -> Reference:
        if reference.record_id != other_id:
            return reference
        return reference.model_copy(update={"record_id": survivor_id})

    concerned = [
        stored
        for stored in register.records.values()
        if any(reference.record_id == other_id for reference in patient_references(stored.record))
    ]
    for stored in concerned:
        store(register, item, stored, with_patients(stored.record, changed), new_id)


def _take_identifiers(
    register: Register, item: Incoming, survivor_id: str, others: Sequence[str], new_id: Callable[[str], str]
) -> None:
    stored = register.records[survivor_id]
    assert isinstance(stored.record, Patient)
    assert item.update is not None
    named = (*item.update.retired, *(one for other in others for one in register.records[other].record.identifiers))
    old = {(one.system, one.value): one.model_copy(update={"use": "old"}) for one in named if one.system}
    # A message may retire nothing but what was retired before: then nothing changes, in whatever order it stands.
    known = {(one.system, one.value) for one in stored.record.identifiers if one.use == "old"}
    added = [one for name, one in old.items() if name not in known]
    kept = [one for one in stored.record.identifiers if one.use == "old" or (one.system, one.value) not in old]
    links = [PatientLink(other=Reference(type="Patient", record_id=other), type="replaces") for other in others]
    changes = {"identifiers": (*kept, *added), "links": (*stored.record.links, *links)}
    store(register, item, stored, stored.record.model_copy(update=changes), new_id)
    # Retired identifiers do not name the survivor, and still lead to it.
    for system, value in old:
        key = (Patient.TYPE, str(system), value)
        if register.owners.get(key) != survivor_id:
            register.owners[key] = register.owners_added[key] = survivor_id
