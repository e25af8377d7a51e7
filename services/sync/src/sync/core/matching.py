"""Which record a source's resource is: by cross-reference, then by identifier, never by guess."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class MatchKind(StrEnum):
    """How a resource found its record."""

    LINKED = "linked"
    MATCHED = "matched"
    NEW = "new"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Match:
    """The decision; `record_id` is None for a new record and for a conflict."""

    kind: MatchKind
    record_id: str | None = None


def decide(linked: str | None, owners: Collection[str], taken: Collection[str]) -> Match:
    """Decide by the record that the cross-reference names, the records that own one of its identifiers (system and
    value), and which of those are cross-referenced to another resource of the same source (`taken`).

    Two different records, or one that is another resource's already, is a conflict: a person decides.
    """
    candidates = {*owners, *({linked} if linked else ())}
    if len(candidates) > 1:
        return Match(MatchKind.CONFLICT)
    if linked:
        return Match(MatchKind.LINKED, linked)
    if not candidates:
        return Match(MatchKind.NEW)
    found = next(iter(candidates))
    return Match(MatchKind.CONFLICT) if found in taken else Match(MatchKind.MATCHED, found)
