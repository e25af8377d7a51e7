"""Faults over HTTP: listed with what is expected to be seen, started and stopped; for one server, or for the practices
of the settings together with the HL7 peers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import Clock, instant_text
from common.models.errors import FieldError, SuiteError
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from simulator.core.fault_row import Surface
from simulator.core.faults import FAULTS, ActiveFault, BadParameterError, FaultRow, Faults, UnknownFaultError
from simulator.core.servers import Server
from simulator.core.world import World

CallerOf = Annotated[Caller, Depends(caller_of)]
_Word = Annotated[str, Field(max_length=60)]
_HL7: Final = frozenset({Surface.HL7_SENDER, Surface.HL7_RECEIVER})


class FaultStart(BaseModel):
    """How a fault is to be; what is not given takes the default of its row."""

    model_config = ConfigDict(extra="forbid")
    parameters: dict[Annotated[str, Field(max_length=40)], int | _Word] = Field(
        default={}, max_length=10, description="numbers and choices of its row, by name"
    )
    ends_after_s: float | None = Field(default=None, gt=0, le=86_400, description="ends by itself after so long")


def add_routes(api: APIRouter, world: World, clock: Clock) -> None:
    """The routes; paths begin after /simulator/v1."""
    _shared_routes(api, world.faults, clock)
    _server_routes(api, world, clock)


def _shared_routes(api: APIRouter, faults: Faults, clock: Clock) -> None:
    @api.get("/faults", summary="Integration Simulator: faults")
    async def list_faults() -> dict[str, Any]:
        """Every fault: whether it is on for the practices of the settings, and what is expected to be seen."""
        return _listed(faults, FAULTS.values(), clock.now())

    @api.get("/faults/{name}", summary="Integration Simulator: one fault")
    async def read_fault(name: str) -> dict[str, Any]:
        """One fault."""
        return _json(_row(name), faults.active(name, clock.now()))

    @api.put("/faults/{name}", summary="Integration Simulator: switch a fault on")
    async def start_fault(name: str, body: FaultStart | None = None) -> dict[str, Any]:
        """Switch a fault on for the practices of the settings and the HL7 peers, or change one that is on."""
        return _start(faults, _row(name), body, clock.now())

    @api.delete("/faults/{name}", status_code=204, summary="Integration Simulator: switch a fault off")
    async def stop_fault(name: str) -> Response:
        """Switch a fault off; one that is off stays so."""
        faults.stop(_row(name).name)
        return Response(status_code=204)


def _server_routes(api: APIRouter, world: World, clock: Clock) -> None:
    @api.get("/servers/{name}/faults", summary="Integration Simulator: faults of a vendor server")
    async def list_faults(name: str, caller: CallerOf) -> dict[str, Any]:
        """The faults that this server can have: whether they are on, and what is expected to be seen."""
        server = _server(world, caller, name)
        return _listed(server.faults, (row for row in FAULTS.values() if _fits(row, server)), clock.now())

    @api.put("/servers/{name}/faults/{fault}", summary="Integration Simulator: switch a fault of a server on")
    async def start_fault(name: str, fault: str, caller: CallerOf, body: FaultStart | None = None) -> dict[str, Any]:
        """Switch a fault of this server on, or change the parameters of one that is on."""
        server = _server(world, caller, name)
        return _start(server.faults, _row(fault, lambda row: _fits(row, server)), body, clock.now())

    @api.delete("/servers/{name}/faults", status_code=204, summary="Integration Simulator: end a server's faults")
    async def stop_all(name: str, caller: CallerOf) -> Response:
        """Switch every fault of this server off."""
        server = _server(world, caller, name)
        for row in FAULTS.values():
            server.faults.stop(row.name)
        return Response(status_code=204)

    @api.delete(
        "/servers/{name}/faults/{fault}", status_code=204, summary="Integration Simulator: switch a server's fault off"
    )
    async def stop_fault(name: str, fault: str, caller: CallerOf) -> Response:
        """Switch a fault of this server off; one that is off stays so."""
        server = _server(world, caller, name)
        server.faults.stop(_row(fault, lambda row: _fits(row, server)).name)
        return Response(status_code=204)


def _fits(row: FaultRow, server: Server) -> bool:
    return not row.surfaces & _HL7 and (not row.vendors or server.vendor.value in row.vendors)


def _server(world: World, caller: Caller, name: str) -> Server:
    server = world.servers.of(caller.tenant, name)
    if server is None:
        raise SuiteError("simulator.not-found", "There is no vendor server of that name.")
    return server


def _row(name: str, fits: Callable[[FaultRow], bool] = lambda _: True) -> FaultRow:
    row = FAULTS.get(name)
    if row is None or not fits(row):
        raise SuiteError("fault.unknown")
    return row


def _start(faults: Faults, row: FaultRow, body: FaultStart | None, now: datetime) -> dict[str, Any]:
    wanted = body or FaultStart()
    try:
        active = faults.start(row.name, wanted.parameters, now, wanted.ends_after_s)
    except UnknownFaultError:
        raise SuiteError("fault.unknown") from None
    except BadParameterError as error:
        field = FieldError(f"/parameters/{error.name}", "out-of-range", f"expected {error.expected}")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field]) from None
    return _json(active.row, active)


def _listed(faults: Faults, rows: Any, now: datetime) -> dict[str, Any]:
    return page_body([_json(row, faults.active(row.name, now)) for row in rows], None)


def _json(row: FaultRow, active: ActiveFault | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "cause": row.cause,
        "surfaces": sorted(row.surfaces),
        "vendors": sorted(row.vendors),
        "expected": row.expected,
        "active": active is not None,
        "parameters": {**active.parameters, **active.choices} if active else None,
        "available_parameters": [
            *(
                {"name": one.name, "default": one.default, "minimum": one.low, "maximum": one.high, "what": one.what}
                for one in row.parameters
            ),
            *(
                {"name": one.name, "default": one.values[0], "values": list(one.values), "what": one.what}
                for one in row.choices
            ),
        ],
        "started_at": _instant(active.started_at) if active else None,
        "ends_at": _instant(active.ends_at) if active else None,
    }


def _instant(value: datetime | None) -> str | None:
    return instant_text(value) if value is not None else None
