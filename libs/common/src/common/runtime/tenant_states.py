"""Which practices are suspended or offboarded, and which accesses for a time were ended: kept by every process from the
compacted topic that auth-gateway writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from common.models.access import Role
from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from common.runtime.bus import Bus, Consumption, Delivery

TOPIC: Final = "ps.tenant.changed.v1"
SUSPENDED: Final = "suspended"
OFFBOARDING: Final = "offboarding"
"""Its export is made; as suspended."""
OFFBOARDED: Final = "offboarded"
"""Its keys are destroyed; nobody is admitted."""
_AT_REST: Final = frozenset({SUSPENDED, OFFBOARDING})
ACCESS_ENDED: Final = "ps.tenant.access-ended"


class TenantStates:
    """See the module's text."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._suspended: set[str] = set()
        self._offboarded: set[str] = set()
        self.left: list[Callable[[str], None]] = []
        """Called with a practice whose keys are destroyed."""
        self.rests: list[Callable[[str], None]] = []
        """Called with a practice whose people are refused from now on."""
        self._ended: set[str] = set()
        self._consumption: Consumption | None = None

    async def start(self) -> None:
        """Read what is announced so far, then keep up."""
        self._consumption = await self._bus.broadcast([TOPIC], self._handle)

    async def stop(self) -> None:
        """Stop listening."""
        if self._consumption is not None:
            await self._consumption.stop()

    def admit(self, caller: Caller, *, while_away: bool = False) -> None:
        """Raises SuiteError `tenant.suspended` for people of a suspended practice, `tenant.offboarded` for everybody of
        one that was offboarded, `auth.access-ended` for those whose access for a time was ended.

        Services go on: what was taken in before is kept in order, so that nothing is lost. What reaches out is paused.
        """
        if caller.access in self._ended:
            raise SuiteError("auth.access-ended")
        if while_away:
            return
        if caller.tenant in self._offboarded or Role.SERVICE not in caller.roles:
            self.check(caller.tenant)

    def check(self, tenant: str) -> None:
        """For people of a practice: raises SuiteError `tenant.suspended` or `tenant.offboarded`."""
        if tenant in self._offboarded:
            raise SuiteError("tenant.offboarded")
        if tenant in self._suspended:
            raise SuiteError("tenant.suspended")

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            event = delivery.event
            if event.type == ACCESS_ENDED:
                self._ended.add(event.subject)
            elif not event.deleted and event.data.get("state") == OFFBOARDED:
                self._offboarded.add(event.subject)
                for tell in (*self.left, *self.rests):
                    tell(event.subject)
            elif not event.deleted and event.data.get("state") in _AT_REST:
                self._suspended.add(event.subject)
                for tell in self.rests:
                    tell(event.subject)
            else:
                self._suspended.discard(event.subject)
