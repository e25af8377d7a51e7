"""The truth about a synthetic practice: who is whose twin, double or end, so that a matching can be checked."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from common.models.errors import FieldError, SuiteError
from common.models.paging import decode_cursor, encode_cursor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from simulator.core.chart import Chart
from simulator.core.population import SHARE_MAX, Place, Role, Shares
from simulator.core.practice import Practice
from simulator.core.world import World

CallerOf = Annotated[Caller, Depends(caller_of)]
_Share = Annotated[int, Field(ge=0, le=SHARE_MAX)]


class PopulationShares(BaseModel):
    """How many of a hundred patients are hard to match."""

    model_config = ConfigDict(extra="forbid")

    twins: _Share = Field(default=1, description="same family name, birth date, address and guarantor as another one")
    moved: _Share = Field(default=1, description="have a former address, and another telephone number")
    duplicates: _Share = Field(default=1, description="registered a second time, with a typing error")
    merged: _Share = Field(default=1, description="records that ended in another one")

    def shares(self) -> Shares:
        """For the practice."""
        return Shares(self.twins, self.moved, self.duplicates, self.merged)


def counts_of(practice: Practice) -> dict[str, int]:
    """How many there are of each role."""
    counted = Counter(place.role for place in practice.special())
    return {role.value: counted[role] for role in Role}


def chart_of(world: World, caller: Caller, practice: str | None, server: str | None) -> Chart:
    """The chart of a practice of the settings (by default the first) or of a server of the caller's tenant.

    Raises SuiteError `simulator.not-found`, `request.invalid` for both at once.
    """
    if practice and server:
        field = FieldError("/server", "one-of", "practice or server")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
    if server:
        found = world.servers.of(caller.tenant, server)
        if found is None:
            raise SuiteError("simulator.not-found", "There is no vendor server of that name.")
        return found.chart
    chart = world.chart(practice or world.names[0])
    if chart is None:
        raise SuiteError("simulator.not-found", "There is no simulated practice of that name.")
    return chart


def add_routes(api: APIRouter, world: World) -> None:
    """Paths begin after /simulator/v1."""

    @api.get("/population", summary="Integration Simulator: who is hard to match")
    async def population(
        caller: CallerOf,
        practice: Annotated[
            str | None, Query(max_length=40, description="a simulated practice; default: first")
        ] = None,
        server: Annotated[str | None, Query(max_length=40, description="a vendor server instead")] = None,
        role: Annotated[Role | None, Query(description="only this one")] = None,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
    ) -> dict[str, Any]:
        """Twins, moved, duplicate and merged patients with the record they belong to: the truth to check against."""
        made = chart_of(world, caller, practice, server).practice
        start = max(decode_cursor(cursor, [int])[0], 0) if cursor else 0
        wanted = (place for place in made.special() if role is None or place.role is role)
        rows = list(islice(wanted, start, start + limit + 1))
        following = encode_cursor([start + limit]) if len(rows) > limit else None
        return page_body([_json(made, place) for place in rows[:limit]], following) | {"counts": counts_of(made)}


def _json(practice: Practice, place: Place) -> dict[str, Any]:
    own, other = practice.patients.at(place.index), practice.patients.at(place.partner)
    return {
        "role": place.role.value,
        "patient": own.id,
        "mrn": own.mrn,
        "other": other.id if place.role is not Role.MOVED else None,
        "other_mrn": other.mrn if place.role is not Role.MOVED else None,
        "same_person": place.role in {Role.DUPLICATE, Role.MERGED},
    }
