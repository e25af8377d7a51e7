"""What clients wrote to a server: resources with versions, over those that the practice's seed makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from simulator.core.chance import below
from simulator.core.resources import instant

WRITTEN_MAX: Final = 10_000
_CYCLE_S: Final = 35 * 24 * 3600
_EPOCH_S: Final = 1_704_067_200  # 2024-01-01, as everywhere in the practice


@dataclass(frozen=True, slots=True)
class Held:
    """A resource as it was last written; `resource` None: deleted."""

    version: int
    updated_at: datetime
    resource: Mapping[str, Any] | None = field(repr=False)


class WrittenFullError(Exception):
    """There is no room for another resource."""


class Written:
    """Resources by type and id; nothing that was written is given up, so there is a bound and an error."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Held] = {}
        self.version = 0

    def of(self, kind: str, resource_id: str) -> Held | None:
        """What was written of a resource, None: nothing."""
        return self._held.get((kind, resource_id))

    def all(self, kind: str) -> Iterator[tuple[str, Held]]:
        """Everything written of a type, in the order of its first writing."""
        return ((one[1], held) for one, held in self._held.items() if one[0] == kind)

    def put(self, kind: str, resource_id: str, resource: Mapping[str, Any] | None, version: int, now: datetime) -> Held:
        """Write a version; raises WrittenFullError."""
        if (kind, resource_id) not in self._held and len(self._held) >= WRITTEN_MAX:
            raise WrittenFullError
        held = self._held[(kind, resource_id)] = Held(version, now, resource)
        self.version += 1
        return held

    def __len__(self) -> int:
        return len(self._held)


def touched_at(seed: int, kind: str, resource_id: str, now: datetime) -> datetime:
    """When a resource that nobody wrote was last touched: once in each cycle of five weeks, at its own instant."""
    offset = below(_CYCLE_S, seed, "touched", kind, resource_id)
    passed = (now.timestamp() - _EPOCH_S - offset) // _CYCLE_S
    return now.fromtimestamp(_EPOCH_S + offset, now.tzinfo) + timedelta(seconds=passed * _CYCLE_S)


def with_meta(resource: Mapping[str, Any], version: int, updated_at: datetime | None) -> dict[str, Any]:
    """The resource with its version, and when it was last changed where the server tells that."""
    meta: dict[str, Any] = {"versionId": str(version)}
    if updated_at is not None:
        meta["lastUpdated"] = instant(updated_at)
    return {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta} | {
        name: value for name, value in resource.items() if name not in {"resourceType", "id", "meta"}
    }
