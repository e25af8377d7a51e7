"""Merging what a source says into the record we hold.

An HL7 message carries only what it carries: an absent field stays, a null one is cleared. A FHIR resource is whole, so
it is compared with what the same source said last (three-way, per field): only what the PMS really changed is taken,
and what another road brought meanwhile stays until the PMS changes that field itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from common.models.records import Part, Record, changed_fields
from sync.core.fingerprint import Seen, digest
from sync.core.incoming import Update

R = TypeVar("R", bound=Record)

NO_SYSTEM: Final = ""
OLD: Final = "use: old"
"""No URI, so no identifier system."""

GROUPS: Final[Mapping[str, Callable[[Any], str]]] = {
    # A source decides about the identifier systems that it knows, and about no other. Identifiers out of use stay when
    # it names those in use: they are how what comes under them still finds the record.
    "identifiers": lambda identifier: OLD if identifier.use == "old" else identifier.system or NO_SYSTEM,
    # PID-13 says what is not business, PID-14 what is (HL7 v2.5.1 §3.4.2).
    "telecom": lambda point: "work" if point.use == "work" else "personal",
    "participants": lambda participant: participant.actor.type,
}
"""List fields in which a source may speak for a part: how an item's group is found."""

_OFFSET_OF: Final = {"start": "start_offset", "end": "end_offset"}


@dataclass(frozen=True, slots=True)
class Merged:
    """The record after a merge, and the names of the fields that changed (none: nothing to store)."""

    record: Record
    changed: tuple[str, ...]


def whole_update(record: Record, present: Seen, last: Seen | None) -> Update:
    """What a whole resource (its fingerprint is `present`) changes against what its source said last (None: it is seen
    for the first time)."""
    base = last or Seen()
    carried = frozenset(name for name, value in present.fields.items() if base.fields.get(name) != value)
    cleared = frozenset(base.fields) - frozenset(present.fields)
    groups = {}
    if "identifiers" in carried | cleared:
        # Systems it named before and names no more are its to remove; those of other sources are not.
        carried, cleared = carried | {"identifiers"}, cleared - {"identifiers"}
        groups["identifiers"] = frozenset((*present.systems, *base.systems, NO_SYSTEM))
    return Update(record, carried, cleared, groups)


def merge(stored: Record | None, update: Update) -> Merged:
    """The record with the update in it. Doing it twice changes nothing more; disjoint updates commute."""
    before = stored if stored is not None else type(update.record)()
    changes: dict[str, Any] = {name: type(before).model_fields[name].get_default() for name in update.cleared}
    for name in update.carried:
        value, stored_value, groups = getattr(update.record, name), getattr(before, name), update.groups.get(name)
        joined = value if groups is None else _joined(name, stored_value, value, groups)
        # A message's component that is absent is kept, as its field would be (HL7 v2.5.1 §2.5.3.3).
        changes[name] = stored_value if update.partial and _covers(stored_value, joined) else joined
    for instant, offset in _OFFSET_OF.items():
        # The same instant written with another offset is no change.
        if changes.keys() >= {instant, offset} and changes[instant] is not None:
            known = getattr(before, offset)
            changes[offset] = known if known and changes[instant] == getattr(before, instant) else changes[offset]
    record = before.model_copy(update=changes)
    return Merged(record, changed_fields(stored, record))


def _joined(name: str, stored: tuple[Any, ...], carried: tuple[Any, ...], groups: frozenset[str]) -> tuple[Any, ...]:
    """The list with the groups in it replaced; the order of a list that holds the same items is left alone."""
    group_of = GROUPS[name]
    # A group that is not among those it speaks for may still be named by the source: what it says is taken.
    spoken = groups | {group_of(item) for item in carried}
    joined = (*(item for item in stored if group_of(item) not in spoken), *carried)
    return stored if _items(stored) == _items(joined) else joined


def _covers(stored: Any, carried: Any) -> bool:
    """Whether everything the carried value says is said by the stored one already, which may say more."""
    if isinstance(carried, Part):
        named = [name for name in type(carried).model_fields if getattr(carried, name) not in {None, ()}]
        return type(stored) is type(carried) and all(
            _covers(getattr(stored, name), getattr(carried, name)) for name in named
        )
    if isinstance(carried, tuple):
        if not isinstance(stored, tuple) or len(stored) != len(carried):
            return False
        if all(isinstance(item, Part) for item in carried):
            return all(any(_covers(one, other) for one in stored) for other in carried)
    return bool(stored == carried)


def _items(items: tuple[Any, ...]) -> list[str]:
    return sorted(digest(item.model_dump(mode="json", exclude_defaults=True)) for item in items)
