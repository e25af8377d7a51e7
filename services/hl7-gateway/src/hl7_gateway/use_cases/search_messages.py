"""Find messages; a patient is asked for by an identifier and found by its pseudonym."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from common.models.integration import Integration
from common.models.paging import Page
from hl7_gateway.core.message import StoredMessage, patient_text
from hl7_gateway.ports import KeySource, MessageBook, MessageFilter


async def search_messages(
    tenant: str,
    wanted: MessageFilter,
    patient: tuple[str, str] | None,
    *,
    cursor: str | None,
    limit: int,
    book: MessageBook,
    keys: KeySource,
    integrations: Iterable[Integration],
) -> Page[StoredMessage]:
    """Newest first. `patient` is (identifier system or assigning authority, id).

    An assigning authority is looked for under every system that an integration of the tenant maps it to, and under
    its own name, since a message that came before it was mapped carries that.
    """
    if patient is not None:
        named, number = patient
        systems = {named}
        for integration in integrations:
            if integration.tenant == tenant:
                systems |= {
                    row.system
                    for row in integration.identifier_systems
                    if row.assigning_authority.casefold() == named.casefold()
                }
        held = await keys.tenant(tenant)
        names = tuple(held.pseudonym("patient", patient_text(system, number)) for system in sorted(systems))
        wanted = replace(wanted, patient_keys=names)
    return await book.search(tenant, wanted, cursor, limit)
