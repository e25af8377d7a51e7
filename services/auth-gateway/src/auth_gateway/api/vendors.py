"""Vendors with the JSON Schemas of every form, and the network sheet of an integration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from auth_gateway.api.credentials import CredentialBody
from auth_gateway.api.integrations import ChannelBody, NewIntegration
from auth_gateway.core.configuration import CHANNEL_KINDS
from auth_gateway.core.methods import METHODS, Method
from auth_gateway.core.network_sheet import sheet_text, ways
from auth_gateway.core.templates import TEMPLATES, Template
from auth_gateway.ports import Credentials, Integrations
from common.models.identifiers import check_id
from common.models.integration import ChannelKind, Vendor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import page_body
from pms.authentication import methods_of
from pms.capabilities import ResourceCapability, resources_of
from pms.offers import offers_of

Who = Annotated[Caller, Depends(caller_of)]
_OF_EVERY_METHOD: Final = frozenset({"method", "secret_expires_at", "test_every_s"})
_NOT_A_PART: Final = frozenset({"resource", "offered"})
_FOR_FILES: Final = ("sftp_key", "sftp_password")
_FOR_APIS: Final = ("api_key", "http_basic", "mutual_tls")


def router(integrations: Integrations, credentials: Credentials, egress: Sequence[str]) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: PMS Systems (vendors)"])

    @api.get("/vendors", summary="Vendors")
    async def vendors(caller: Who) -> dict[str, Any]:
        """Every vendor with what an integration of it begins with."""
        return page_body([_summary(row) for row in TEMPLATES.values()], None)

    @api.get("/vendors/{vendor}", summary="One vendor, with its forms")
    async def vendor(vendor: Vendor, caller: Who) -> dict[str, Any]:
        """JSON Schemas of the integration, its channels and its credential per method; what its API offers."""
        return {
            **_summary(TEMPLATES[vendor]),
            "forms": {
                "integration": NewIntegration.model_json_schema(),
                "channel": _channel_schema(vendor),
                "credential": {name: _credential_schema(METHODS[name]) for name in _methods(vendor)},
            },
            "offers": [_offer(row) for row in resources_of(vendor)],
        }

    @api.get("/integrations/{integration_id}/offers", summary="What an installation offers by API")
    async def offers(integration_id: str, caller: Who) -> dict[str, Any]:
        """Its vendor's rows with the integration's `capability_overrides`; `overridden` names the parts that differ."""
        document = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        overrides = {row["resource"]: row for row in document.body.get("capability_overrides", ())}
        rows = offers_of(Vendor(document.body["vendor"]), overrides.values()).rows
        return page_body([_offer(row) | {"overridden": _overridden(overrides.get(row.resource))} for row in rows], None)

    @api.get("/integrations/{integration_id}/network-sheet", summary="Network sheet for vendor and firewall team")
    async def network_sheet(integration_id: str, request: Request, caller: Who) -> Response:
        """Addresses, hosts, ports and protocols; as text with `Accept: text/plain`."""
        document = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        urls = [
            (f"credential {row.name}: {purpose}", url)
            for row in await credentials.list(caller.tenant, document.id)
            for purpose, url in (("token", row.token_url), ("sign-in", row.options.get("authorize_url", "")))
        ]
        needed = ways(document.body["channels"], urls)
        if "text/plain" in request.headers.get("accept", ""):
            return Response(sheet_text(document.body["name"], egress, needed), media_type="text/plain")
        return JSONResponse(
            {
                "integration_id": document.id,
                "egress_addresses": list(egress),
                "ways": [
                    {name: getattr(way, name) for name in ("direction", "host", "port", "protocol", "purpose")}
                    for way in needed
                ],
            }
        )

    return api


def _offer(row: ResourceCapability) -> dict[str, Any]:
    return {
        "resource": row.resource,
        "interactions": sorted(row.interactions),
        "changes_found_by": row.cursor.value,
        "reached_from": row.reached_from,
        "search_any_of": [sorted(one) for one in row.search_any_of],
        "page_records_max": row.page_records_max,
        "ids_per_request_max": row.ids_per_request_max,
        "source": row.source.value,
        "assumed": sorted(row.assumed),
        "note": row.note,
    }


def _overridden(override: Mapping[str, Any] | None) -> list[str]:
    return sorted(name for name, value in (override or {}).items() if value is not None and name not in _NOT_A_PART)


def _summary(row: Template) -> dict[str, Any]:
    return {
        "vendor": row.vendor.value,
        "title": row.title,
        "products": list(row.products),
        "channel_kinds": sorted(CHANNEL_KINDS[row.vendor]),
        "methods": list(_methods(row.vendor)),
        "template": {
            "channels": {name: kind.value for name, kind in row.channels.items()},
            "credential": dict(row.credential),
            "to_ask": list(row.to_ask),
        },
    }


def _methods(vendor: Vendor) -> Sequence[str]:
    """What the vendor's documents name first, then what any system of its kinds may ask for."""
    named = [row.method for row in methods_of(vendor) if row.method in METHODS]
    kinds = CHANNEL_KINDS[vendor]
    more = [*(_FOR_APIS if kinds & {ChannelKind.FHIR, ChannelKind.UNITY} else ()), *_FOR_FILES]
    return list(dict.fromkeys([*named, *more]))


def _channel_schema(vendor: Vendor) -> dict[str, Any]:
    schema = ChannelBody.model_json_schema()
    schema["properties"]["kind"] = {"enum": sorted(CHANNEL_KINDS[vendor]), "title": "Kind"}
    return schema


def _credential_schema(method: Method) -> dict[str, Any]:
    """The form with the fields of one method only."""
    schema = CredentialBody.model_json_schema()
    wanted = method.needs | method.may | _OF_EVERY_METHOD
    schema["properties"] = {name: row for name, row in schema["properties"].items() if name in wanted}
    schema["properties"]["method"] = {"const": method.name, "title": "Method"}
    schema["required"] = ["method", *sorted(method.needs)]
    schema["title"] = method.title
    return schema
