"""What a caller says of a change, in headers: read the same way wherever a configuration changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header

from auth_gateway.core.change_record import Why
from common.models.identifiers import check_id

ChangeId = Annotated[
    str | None,
    Header(alias="X-Change-Record", max_length=40, description="the change record that this change belongs to"),
]


def _why(
    reason: Annotated[
        str | None, Header(alias="X-Change-Reason", max_length=500, description="why; kept with the change")
    ] = None,
    change_id: ChangeId = None,
) -> Why:
    return Why(reason, checked_change(change_id))


def checked_change(change_id: str | None) -> str | None:
    """Raises SuiteError `request.invalid` or `*.not-found` for what is no id of a change record."""
    return check_id(change_id, "chg") if change_id is not None else None


Said = Annotated[Why, Depends(_why)]
