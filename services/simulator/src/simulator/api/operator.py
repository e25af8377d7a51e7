"""What an operator does with the simulator: registers clients, switches faults, sends messages, looks at patients."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from common.models.clock import Clock, Ids, instant_text
from common.models.errors import FieldError, SuiteError
from common.models.paging import decode_cursor, encode_cursor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from simulator.api.population import counts_of
from simulator.api.vendor import Addresses
from simulator.core.chart import Chart
from simulator.core.clients import Client, ClientTakenError, RegisterFullError
from simulator.core.faults import FAULTS, Surface
from simulator.core.hl7_feed import MessageKind
from simulator.core.metadata import SCOPES_OFFERED
from simulator.core.practice import CSN_SYSTEM, MRN_SYSTEM, Patient
from simulator.core.world import World
from simulator.ports import MessageSender
from simulator.use_cases.register_client import register_client
from simulator.use_cases.send_message import Order, send_message

ClientId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="the client id that the vendor knows")]
CallerOf = Annotated[Caller, Depends(caller_of)]
PracticeName = Annotated[str | None, Query(max_length=40, description="a simulated practice; by default the first")]
_PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClientRegistration(_Body):
    """A client application, as it is entered at the vendor: its public keys by URL or as a document, or a secret."""

    jwks_url: str | None = Field(default=None, max_length=2048, pattern=r"^https?://", description="where its keys are")
    jwks: dict[str, Any] | None = Field(default=None, description="its public keys, when they are not published")
    secret: SecretStr | None = Field(
        default=None,
        min_length=8,
        max_length=200,
        description="its secret where the vendor takes one; never shown again",
    )
    redirect_uris: tuple[Annotated[str, Field(max_length=500, pattern=r"^https?://")], ...] = Field(
        default=(), max_length=10, description="where a browser may be sent back to, for grants of persons"
    )
    scopes: tuple[Annotated[str, Field(max_length=200)], ...] = Field(
        default=SCOPES_OFFERED, min_length=1, max_length=50, description="the scopes it may have"
    )
    enabled: bool = Field(default=True, description="false: the application is switched off; its tokens end")
    expires_at: AwareDatetime | None = Field(default=None, description="when the registration ends")


class AddressChange(_Body):
    """The parts of an address that change."""

    line: str | None = Field(default=None, max_length=120)
    city: str | None = Field(default=None, max_length=60)
    state: str | None = Field(default=None, max_length=20)
    postal_code: str | None = Field(default=None, max_length=12)


class PatientChanges(_Body):
    """What changes about the patient; null takes a value away (sent as the HL7 null `""`)."""

    family: str | None = Field(default=None, min_length=1, max_length=80)
    given: list[Annotated[str, Field(min_length=1, max_length=60)]] | None = Field(
        default=None, min_length=1, max_length=5
    )
    birth_date: date | None = None
    sex: Literal["male", "female", "other", "unknown"] | None = None
    phone: str | None = Field(default=None, max_length=30)
    email: str | None = Field(default=None, max_length=120)
    address: AddressChange | None = None

    def given_changes(self) -> dict[str, Any]:
        """Only what the caller named, an explicit null included."""
        changes: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if self.address is not None:
            changes["address"] = self.address.model_dump(exclude_none=True)
        return changes


class Hl7Order(_Body):
    """One HL7 message to send over MLLP."""

    kind: MessageKind = Field(description="ADT^A01, ADT^A04, ADT^A08 or SIU^S12")
    patient: str = Field(min_length=1, max_length=64, description="external id of the patient")
    changes: PatientChanges = Field(default_factory=PatientChanges)
    start: AwareDatetime | None = Field(default=None, description="SIU^S12: when the new appointment begins")
    minutes: int | None = Field(default=None, ge=1, le=1440, description="SIU^S12: how long it is")
    practice: str | None = Field(default=None, max_length=40, description="a simulated practice; by default the first")
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="where the listener is")
    port: int = Field(default=2575, ge=1, le=65535)
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="how long to wait for the acknowledgement")


def add_routes(
    api: APIRouter, world: World, sender: MessageSender, addresses: Addresses, clock: Clock, ids: Ids
) -> None:
    """The operator's routes; paths begin after /simulator/v1."""
    _practice_routes(api, world, addresses)
    _client_routes(api, world, clock)
    _hl7_routes(api, world, sender, clock, ids)


def _practice_routes(api: APIRouter, world: World, addresses: Addresses) -> None:
    @api.get("", summary="Integration Simulator: what there is")
    async def overview(request: Request) -> dict[str, Any]:
        """The simulated practices with their addresses, the faults there are, the HL7 messages that can be sent."""
        practices = []
        for name in world.names:
            base_url, token_url = addresses.of(request, name)
            practice = _chart(world, name).practice
            practices.append(
                {
                    "name": name,
                    "vendor": "epic",
                    "fhir_base": base_url,
                    "token_url": token_url,
                    "time_zone": practice.zone.key,
                    "patients": len(practice.patients),
                    "population": counts_of(practice),
                    "group_id": practice.group,
                    "identifier_systems": {"patient": MRN_SYSTEM, "appointment": CSN_SYSTEM},
                }
            )
        return {"practices": practices, "faults": list(FAULTS), "hl7_messages": [kind.value for kind in MessageKind]}

    @api.get("/patients", summary="Integration Simulator: synthetic patients")
    async def list_patients(
        practice: PracticeName = None, limit: Limit = LIMIT_DEFAULT, cursor: CursorText = None
    ) -> dict[str, Any]:
        """The synthetic patients of a simulated practice, with the external ids and identifiers of its PMS."""
        chart = _chart(world, practice)
        patients = list(chart.patients())
        start = decode_cursor(cursor, [int])[0] if cursor else 0
        rows = [_patient_json(chart, row) for row in patients[max(start, 0) : max(start, 0) + limit]]
        following = max(start, 0) + limit
        return page_body(rows, encode_cursor([following]) if following < len(patients) else None)


def _client_routes(api: APIRouter, world: World, clock: Clock) -> None:
    @api.get("/clients", summary="Integration Simulator: registered clients")
    async def list_clients(caller: CallerOf) -> dict[str, Any]:
        """The client applications that this tenant registered with the simulated vendor."""
        return page_body([_client_json(row) for row in world.clients.owned(caller.tenant)], None)

    @api.get("/clients/{client_id}", summary="Integration Simulator: one registered client")
    async def read_client(client_id: ClientId, caller: CallerOf) -> dict[str, Any]:
        """One client, with the reason of its last refusal: what a real vendor does not tell."""
        return _client_json(_client(world, caller, client_id))

    @api.put("/clients/{client_id}", summary="Integration Simulator: register a client")
    async def put_client(client_id: ClientId, body: ClientRegistration, caller: CallerOf) -> dict[str, Any]:
        """Register a client application with the simulated vendor, or change its registration."""
        _check_keys(body)
        client = Client(
            client_id,
            caller.tenant,
            body.jwks_url,
            body.jwks,
            body.scopes,
            body.enabled,
            body.expires_at,
            clock.now(),
            body.secret.get_secret_value() if body.secret else None,
            body.redirect_uris,
        )
        try:
            return _client_json(register_client(world, client))
        except ClientTakenError:
            raise SuiteError("request.conflict", "That client id is taken.") from None
        except RegisterFullError:
            raise SuiteError("request.conflict", "The register is full; remove clients that are not used.") from None

    @api.delete("/clients/{client_id}", status_code=204, summary="Integration Simulator: remove a client")
    async def delete_client(client_id: ClientId, caller: CallerOf) -> Response:
        """Take a client off the register; its tokens end."""
        client = _client(world, caller, client_id)
        world.clients.remove(client)
        world.tokens.revoke_client(client.client_id)
        return Response(status_code=204)


def _hl7_routes(api: APIRouter, world: World, sender: MessageSender, clock: Clock, ids: Ids) -> None:
    @api.post("/hl7:send", summary="Integration Simulator: send an HL7 message")
    async def send(body: Hl7Order) -> dict[str, Any]:
        """Compose an HL7 message about a synthetic patient, send it over MLLP, and return the acknowledgement."""
        if body.kind is not MessageKind.BOOK and (body.start or body.minutes):
            field = FieldError("/start" if body.start else "/minutes", "not-allowed", "only with SIU^S12")
            raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
        order = Order(
            kind=body.kind,
            patient=body.patient,
            changes=body.changes.given_changes(),
            host=body.host,
            port=body.port,
            timeout_s=body.timeout_s,
            start=body.start,
            minutes=body.minutes,
        )
        # MSH-10 holds 20 characters up to HL7 2.6.
        now = clock.now()
        sent = await send_message(
            _chart(world, body.practice),
            sender,
            order,
            now=now,
            control_id=ids.token(12)[:20],
            faults=world.faults.on(Surface.HL7_SENDER, now),
        )
        return {
            "kind": body.kind.value,
            "control_id": sent.control_id,
            "acknowledgment_code": sent.acknowledgment_code,
            "matched": sent.matched,
            "error_codes": list(sent.error_codes),
            "message_bytes": sent.message_bytes,
            "appointment_id": sent.appointment_id,
        }


def _chart(world: World, name: str | None) -> Chart:
    chart = world.chart(name or world.names[0])
    if chart is None:
        raise SuiteError("simulator.not-found", "There is no simulated practice of that name.")
    return chart


def _client(world: World, caller: Caller, client_id: str) -> Client:
    client = world.clients.of(caller.tenant, client_id)
    if client is None:
        raise SuiteError("simulator.not-found", "No client of that id is registered.")
    return client


def _check_keys(body: ClientRegistration) -> None:
    if (body.jwks_url is not None and body.jwks is not None) or not (body.jwks_url or body.jwks or body.secret):
        field = FieldError("/jwks_url", "one-of", "jwks_url or jwks, or a secret")
        raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])
    rows = body.jwks.get("keys") if body.jwks is not None else []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        field = FieldError("/jwks/keys", "type", "a list of keys")
    elif any(_PRIVATE_PARTS & row.keys() for row in rows):
        field = FieldError("/jwks/keys", "private-key", "public keys only; what was sent is compromised")
    else:
        return
    raise SuiteError("request.invalid", "1 field(s) are wrong.", fields=[field])


def _patient_json(chart: Chart, row: Patient) -> dict[str, Any]:
    return {
        "external_id": row.id,
        "identifiers": [{"system": MRN_SYSTEM, "value": row.mrn, "type": "MR"}],
        "family": row.family,
        "given": list(row.given),
        "birth_date": row.birth_date.isoformat() if row.birth_date else None,
        "sex": row.sex,
        "phone": row.phone,
        "changed": chart.changed(row.id),
    }


def _client_json(row: Client) -> dict[str, Any]:
    return {
        "client_id": row.client_id,
        "jwks_url": row.jwks_url,
        "jwks_kids": [key.get("kid") for key in row.jwks["keys"]] if row.jwks else None,
        "redirect_uris": list(row.redirect_uris),
        "secret_set": row.secret is not None,
        "scopes": list(row.scopes),
        "enabled": row.enabled,
        "expires_at": _instant(row.expires_at),
        "registered_at": instant_text(row.registered_at),
        "last_token_at": _instant(row.last_token_at),
        "last_refusal": row.last_refusal,
        "last_refused_at": _instant(row.last_refused_at),
    }


def _instant(value: datetime | None) -> str | None:
    return instant_text(value) if value is not None else None
