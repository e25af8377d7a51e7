"""Changes of an integration's configuration are made under a change record where the integration wants one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header

from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from sync.ports import ChangeRecords


def covered_by(changes: ChangeRecords) -> Any:
    """What a route below `/{integration_id}` that changes configuration depends on.

    It raises SuiteError `change.required` or `service.unavailable` before anything is changed.
    """

    async def covered(
        integration_id: str,
        caller: Annotated[Caller, Depends(caller_of)],
        change_id: Annotated[
            str | None,
            Header(alias="X-Change-Record", max_length=40, description="the change record that this belongs to"),
        ] = None,
    ) -> None:
        known = check_id(change_id, "chg") if change_id is not None else None
        await changes.require(caller.tenant, check_id(integration_id, "int"), known)

    return Depends(covered)
