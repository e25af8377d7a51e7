"""A bad network before a vendor server: proxies with toxics (toxiproxy's vocabulary), ports that are closed or mute."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.errors import FieldError, SuiteError
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from simulator.core.toxics import CERTIFICATES, ROWS, TOXICS_MAX, Certificate, Direction, Listening, Toxic, ToxicRow
from simulator.use_cases.keep_proxies import Proxies, Proxy, Wanted

CallerOf = Annotated[Caller, Depends(caller_of)]
_NAME: Final = r"^[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?$"
# What the listening itself reproduces: the row that the fault catalogue has for it.
STATES: Final = {
    Listening.OPEN: ("", "Connections are taken and carried to the upstream."),
    Listening.CLOSED: ("B2", "Connections are refused (TCP reset). Test Connection fails at tcp with peer.connect."),
    Listening.DROPPING: ("B3", "Connections are not answered at all. Test Connection fails at tcp with peer.timeout."),
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProxyCreate(_Body):
    """A proxy before an upstream."""

    name: str = Field(pattern=_NAME)
    upstream_host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="as `fhir_base` has it")
    upstream_port: int = Field(ge=1, le=65_535, description="as `fhir_base` has it")
    port: int = Field(default=0, ge=0, le=65_535, description="where it listens; 0: a free port")
    listening: Listening = Listening.OPEN
    tls: Certificate | None = Field(default=None, description="speak TLS with this certificate; left out: plain TCP")


class ProxyChange(_Body):
    """What the port does from now on; what is left out stays."""

    listening: Listening | None = None
    tls: Certificate | None = None


class ToxicBody(_Body):
    """A toxic; attributes that are not given take the default of its kind."""

    type: str = Field(max_length=40, description="latency, bandwidth, slow_close, timeout, reset_peer, slicer, …")
    stream: Direction = Direction.DOWNSTREAM
    toxicity: float = Field(default=1.0, ge=0, le=1, description="share of the connections that meet it")
    attributes: dict[Annotated[str, Field(max_length=40)], int] = Field(default={}, max_length=5)


def add_routes(api: APIRouter, proxies: Proxies, authority_pem: str) -> None:
    """The routes; paths begin after /simulator/v1."""
    _proxy_routes(api, proxies, authority_pem)
    _toxic_routes(api, proxies)


def _proxy_routes(api: APIRouter, proxies: Proxies, authority_pem: str) -> None:
    @api.get("/toxics", summary="Integration Simulator: what a bad network can do")
    async def kinds() -> dict[str, Any]:
        """Every kind of toxic and every state of a port, with what is expected to be seen."""
        states = [
            {"listening": state.value, "cause": cause, "expected": text} for state, (cause, text) in STATES.items()
        ]
        shown = [{"tls": kind.value, "cause": cause, "expected": text} for kind, (cause, text) in CERTIFICATES.items()]
        return {"toxics": [_row_json(row) for row in ROWS.values()], "listening": states, "certificates": shown}

    @api.get("/authority", summary="Integration Simulator: root certificate of its TLS")
    async def root() -> PlainTextResponse:
        """The root in PEM, to be trusted by who connects to a proxy that speaks TLS."""
        return PlainTextResponse(authority_pem, media_type="application/x-pem-file")

    @api.get("/proxies", summary="Integration Simulator: proxies")
    async def list_proxies(caller: CallerOf) -> dict[str, Any]:
        """The proxies that this tenant made, with their toxics."""
        return page_body([_json(row) for row in proxies.owned(caller.tenant)], None)

    @api.post("/proxies", status_code=201, summary="Integration Simulator: make a proxy")
    async def create(body: ProxyCreate, caller: CallerOf) -> dict[str, Any]:
        """A port of its own before a vendor server: an integration that is set to it meets the network it has."""
        wanted = Wanted(body.name, body.upstream_host, body.upstream_port, body.port, body.listening, body.tls)
        return _json(await proxies.add(caller.tenant, wanted))

    @api.get("/proxies/{name}", summary="Integration Simulator: one proxy")
    async def read(name: str, caller: CallerOf) -> dict[str, Any]:
        """One proxy."""
        return _json(proxies.of(caller.tenant, name))

    @api.patch("/proxies/{name}", summary="Integration Simulator: open, close or silence a proxy's port")
    async def change(name: str, body: ProxyChange, caller: CallerOf) -> dict[str, Any]:
        """What the port does from now on; connections that stand end."""
        proxy = proxies.of(caller.tenant, name)
        try:
            await proxy.tcp.set(body.listening or proxy.tcp.state, body.tls or proxy.tcp.certificate)
        except OSError:
            raise SuiteError("request.conflict", f"Port {proxy.tcp.port} was taken meanwhile.") from None
        return _json(proxy)

    @api.delete("/proxies/{name}", status_code=204, summary="Integration Simulator: remove a proxy")
    async def remove(name: str, caller: CallerOf) -> Response:
        """Close a proxy."""
        await proxies.remove(proxies.of(caller.tenant, name))
        return Response(status_code=204)


def _toxic_routes(api: APIRouter, proxies: Proxies) -> None:
    @api.put("/proxies/{name}/toxics/{toxic}", summary="Integration Simulator: add or change a toxic")
    async def put(name: str, toxic: str, body: ToxicBody, caller: CallerOf) -> dict[str, Any]:
        """New connections meet it; those that stand end."""
        proxy = proxies.of(caller.tenant, name)
        made = _toxic(toxic, body)
        if toxic not in proxy.toxics and len(proxy.toxics) >= TOXICS_MAX:
            raise SuiteError("request.conflict", "There are as many toxics as may be.")
        proxy.toxics[toxic] = made
        proxy.tcp.cut()
        return _json(proxy)

    @api.delete("/proxies/{name}/toxics/{toxic}", status_code=204, summary="Integration Simulator: remove a toxic")
    async def remove(name: str, toxic: str, caller: CallerOf) -> Response:
        """New connections do not meet it any more; those that stand end. One that is not there stays away."""
        proxy = proxies.of(caller.tenant, name)
        proxy.toxics.pop(toxic, None)
        proxy.tcp.cut()
        return Response(status_code=204)


def _toxic(name: str, body: ToxicBody) -> Toxic:
    row = ROWS.get(body.type)
    if row is None:
        field = FieldError("/type", "unknown", f"one of: {', '.join(ROWS)}")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
    known = {one.name: one for one in row.attributes}
    wrong = [given for given in body.attributes if given not in known]
    values = {given: body.attributes.get(given, one.default) for given, one in known.items()}
    wrong += [given for given, one in known.items() if not one.low <= values[given] <= one.high]
    if wrong:
        bounds = ", ".join(f"{one.name} {one.low} to {one.high}" for one in row.attributes)
        fields = [FieldError(f"/attributes/{one}", "out-of-range", f"expected {bounds}") for one in wrong]
        raise SuiteError("request.invalid", f"{len(wrong)} field(s) are wrong.", fields=fields)
    return Toxic(name[:40], row, body.stream, values, body.toxicity)


def _row_json(row: ToxicRow) -> dict[str, Any]:
    return {
        "type": row.kind,
        "title": row.title,
        "cause": row.cause,
        "expected": row.expected,
        "attributes": [
            {"name": one.name, "default": one.default, "minimum": one.low, "maximum": one.high, "what": one.what}
            for one in row.attributes
        ],
    }


def _json(proxy: Proxy) -> dict[str, Any]:
    cause, expected = STATES[proxy.tcp.state]
    if proxy.tcp.state is Listening.OPEN and proxy.tcp.certificate is not None:
        cause, expected = CERTIFICATES[proxy.tcp.certificate]
    return {
        "name": proxy.name,
        "listen": {"host": proxy.tcp.host, "port": proxy.tcp.port},
        "upstream": {"host": proxy.upstream[0], "port": proxy.upstream[1]},
        "listening": proxy.tcp.state.value,
        "tls": proxy.tcp.certificate.value if proxy.tcp.certificate else None,
        "cause": cause or None,
        "expected": expected,
        "connections": proxy.tcp.connections,
        "toxics": [
            {
                "name": one.name,
                "type": one.row.kind,
                "stream": one.direction.value,
                "toxicity": one.toxicity,
                "attributes": dict(one.attributes),
                "expected": one.row.expected,
            }
            for one in proxy.toxics.values()
        ],
        "created_at": instant_text(proxy.created_at),
    }
