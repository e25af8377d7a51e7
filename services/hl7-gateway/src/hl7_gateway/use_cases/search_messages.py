"""Find messages; a patient, a visit or an order is asked for by its number and found by its pseudonym."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common.models.integration import Integration
from hl7_gateway.core.message import patient_text
from hl7_gateway.core.message_keys import KeyKind
from hl7_gateway.ports import KeySource, MessageFilter


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a message may be asked for by. `patient` is (identifier system or assigning authority, id)."""

    patient: tuple[str, str] | None = None
    visit: str | None = None
    order: str | None = None


@dataclass(frozen=True, slots=True)
class PatientKeys:
    """Under which pseudonyms a patient's messages may lie.

    An assigning authority is looked for under every system that an integration of the tenant maps it to, and under
    its own name, since a message that came before it was mapped carries that.
    """

    keys: KeySource
    integrations: Callable[[], Sequence[Integration]]

    async def __call__(self, tenant: str, named: str, number: str) -> tuple[str, ...]:
        """The pseudonyms of an identifier; `named` is its system or assigning authority."""
        systems = {named}
        for integration in self.integrations():
            if integration.tenant == tenant:
                systems |= {
                    row.system
                    for row in integration.identifier_systems
                    if row.assigning_authority.casefold() == named.casefold()
                }
        held = await self.keys.tenant(tenant)
        return tuple(held.pseudonym("patient", patient_text(system, number)) for system in sorted(systems))

    async def filter(self, tenant: str, wanted: MessageFilter, numbers: Numbers) -> MessageFilter:
        """The filter with the pseudonyms of the numbers."""
        if numbers.patient is not None:
            wanted = replace(wanted, patient_keys=await self(tenant, *numbers.patient))
        if numbers.visit is not None or numbers.order is not None:
            held = await self.keys.tenant(tenant)
            visit = None if numbers.visit is None else held.pseudonym(KeyKind.VISIT, numbers.visit)
            order = None if numbers.order is None else held.pseudonym(KeyKind.ORDER, numbers.order)
            wanted = replace(wanted, visit_key=visit, order_key=order)
        return wanted
