"""Under which pseudonyms a patient's messages may lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.models.integration import Integration
from hl7_gateway.core.message import patient_text
from hl7_gateway.ports import KeySource


@dataclass(frozen=True, slots=True)
class PatientKeys:
    """An assigning authority is looked for under every system it is mapped to, and under its own name."""

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
