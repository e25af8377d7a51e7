"""Value maps of an integration: rows, versions, CSV in and out, values of the PMS that no row names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from common.models.clock import instant_text
from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import etag, if_match, page_body
from sync.core.mapping.saved import Kind, SavedVersion, difference, value_map_subject, value_rows_json, version_json
from sync.core.mapping.value_map_csv import CSV_BYTES_MAX, write_value_map
from sync.ports import Integrations
from sync.use_cases.edit_value_map import EditValueMap

_NOTE_CHARACTERS_MAX: Final = 500
_ROWS_MAX: Final = 5_000
_VERSION_MAX: Final = 2**31 - 1
_ONE_LINE: Final = r"^[^\r\n]*$"
Version = Annotated[int, Path(ge=0, le=_VERSION_MAX, description="0: without rows")]


class ValueRow(BaseModel):
    """A code of the PMS and what it is in Practice Studio."""

    model_config = ConfigDict(extra="forbid")

    source_system: str = Field(default="", max_length=400, pattern=_ONE_LINE, description="empty: of any system")
    source_code: str = Field(max_length=400, pattern=_ONE_LINE)
    display: str = Field(default="", max_length=400, pattern=_ONE_LINE)
    target_code: str = Field(max_length=400, pattern=_ONE_LINE)


class ValueMapBody(BaseModel):
    """A value map as a whole."""

    model_config = ConfigDict(extra="forbid")

    rows: list[ValueRow] = Field(max_length=_ROWS_MAX, description="more rows: by CSV")
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX, description="why it was changed")


class ImportBody(BaseModel):
    """A file that replaces the value map."""

    model_config = ConfigDict(extra="forbid")

    csv: str = Field(max_length=CSV_BYTES_MAX, description="header source_system,source_code,display,target_code")
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX)


class RestoreValueMap(BaseModel):
    """Which version is to be in force again."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=0, le=_VERSION_MAX, description="0: without rows")
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX)


def add_routes(api: APIRouter, value_maps: EditValueMap, integrations: Integrations, covered: Any) -> None:
    """`/value-maps`; `covered`: what changes depend on."""
    _add_files(api, value_maps, integrations, covered)
    _add_current(api, value_maps, integrations, covered)
    _add_versions(api, value_maps, integrations, covered)


def _add_current(api: APIRouter, value_maps: EditValueMap, integrations: Integrations, covered: Any) -> None:
    @api.get("/value-maps", summary="Value maps of an integration (PMS Systems > [Your PMS] > Field Mappings)")
    async def list_value_maps(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str, Query(max_length=40, description="the PMS system (integration)")],
    ) -> dict[str, Any]:
        """One per kind; version 0 has no rows yet."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        versions = await value_maps.book.current_versions(caller.tenant, known.id)
        items = [
            {"integration_id": known.id, "kind": each.value, "version": versions.get(value_map_subject(each), 0)}
            for each in Kind
        ]
        return page_body(items, None)

    @api.get("/value-maps/{integration_id}/{kind}", summary="One value map")
    async def read(
        integration_id: str, kind: Kind, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Its rows; its ETag is needed to change it."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        saved = await value_maps.book.get(caller.tenant, known.id, value_map_subject(kind))
        return _answer(response, known.id, kind, saved)

    @api.put("/value-maps/{integration_id}/{kind}", summary="Change a value map", dependencies=[covered])
    async def change(
        integration_id: str,
        kind: Kind,
        body: ValueMapBody,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Replaces its rows; runs use it from their next page."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        after = await value_maps.version_in_force(caller.tenant, known.id, kind)
        if_match(request, after)
        rows = [each.model_dump() for each in body.rows]
        saved = await value_maps.save(caller, known.id, kind, rows, after=after, note=body.note)
        return _answer(response, known.id, kind, saved)

    @api.get("/value-maps/{integration_id}/{kind}/unmapped", summary="Values of the PMS that a value map does not name")
    async def unmapped(
        integration_id: str, kind: Kind, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Most frequent first, at most 500, with the target codes whose names are most like theirs."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        found = await value_maps.unmapped(caller.tenant, known.id, kind)
        items = [
            {
                "source_system": each.source_system,
                "source_code": each.source_code,
                "display": each.display,
                "times": each.times,
                "first_seen_at": instant_text(each.first_seen_at),
                "last_seen_at": instant_text(each.last_seen_at),
                "suggestions": [{"target_code": code, "score": score} for code, score in suggested],
            }
            for each, suggested in found
        ]
        return page_body(items, None)


def _add_versions(api: APIRouter, value_maps: EditValueMap, integrations: Integrations, covered: Any) -> None:
    @api.get("/value-maps/{integration_id}/{kind}/versions", summary="Versions of a value map")
    async def versions(
        integration_id: str, kind: Kind, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Who saved what when, newest first; at most 200."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        found = await value_maps.book.versions(caller.tenant, known.id, value_map_subject(kind))
        return page_body([version_json(each) for each in found], None)

    @api.get("/value-maps/{integration_id}/{kind}/versions/{version}", summary="A version of a value map")
    async def read_version(
        integration_id: str,
        kind: Kind,
        version: Version,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Its rows."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        saved = await value_maps.version(caller.tenant, known.id, kind, version)
        return _answer(response, known.id, kind, saved)

    @api.get("/value-maps/{integration_id}/{kind}/difference", summary="What changed between two versions")
    async def compare(
        integration_id: str,
        kind: Kind,
        caller: Annotated[Caller, Depends(caller_of)],
        before: Annotated[int, Query(ge=0, le=_VERSION_MAX, description="the older version")],
        after: Annotated[int, Query(ge=0, le=_VERSION_MAX, description="the newer version")],
    ) -> dict[str, Any]:
        """Rows by system and code: added, removed, changed."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        one, other = [_rows(await value_maps.version(caller.tenant, known.id, kind, each)) for each in (before, after)]
        return difference(one, other, ("source_system", "source_code"))

    @api.post(
        "/value-maps/{integration_id}/{kind}:restore",
        summary="Put an older value map in force again",
        dependencies=[covered],
    )
    async def restore(
        integration_id: str,
        kind: Kind,
        body: RestoreValueMap,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """As a new version."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        after = await value_maps.version_in_force(caller.tenant, known.id, kind)
        if_match(request, after)
        rows = _rows(await value_maps.version(caller.tenant, known.id, kind, body.version))
        saved = await value_maps.save(
            caller, known.id, kind, rows, after=after, note=body.note, restored_from=body.version
        )
        return _answer(response, known.id, kind, saved)


def _add_files(api: APIRouter, value_maps: EditValueMap, integrations: Integrations, covered: Any) -> None:
    @api.get(
        "/value-maps/{integration_id}/{kind}:export", summary="A value map as CSV", response_class=PlainTextResponse
    )
    async def export(
        integration_id: str, kind: Kind, caller: Annotated[Caller, Depends(caller_of)]
    ) -> PlainTextResponse:
        """Header source_system,source_code,display,target_code; the import reads it back as it is."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        saved, rows = await value_maps.rows(caller.tenant, known.id, kind)
        headers = {
            "ETag": etag(saved.version if saved else 0),
            "Content-Disposition": f'attachment; filename="{kind.value}.csv"',
        }
        return PlainTextResponse(write_value_map(rows), media_type="text/csv", headers=headers)

    @api.post(
        "/value-maps/{integration_id}/{kind}:import", summary="Replace a value map by a CSV", dependencies=[covered]
    )
    async def import_csv(
        integration_id: str,
        kind: Kind,
        body: ImportBody,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Refused as a whole, naming line and column, when a line has a mistake."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        after = await value_maps.version_in_force(caller.tenant, known.id, kind)
        if_match(request, after)
        rows = value_rows_json(value_maps.read_csv(body.csv))
        saved = await value_maps.save(caller, known.id, kind, rows, after=after, note=body.note)
        return _answer(response, known.id, kind, saved)


def _rows(saved: SavedVersion | None) -> Sequence[Any]:
    return saved.content if saved else ()


def _answer(response: Response, integration_id: str, kind: Kind, saved: SavedVersion | None) -> dict[str, Any]:
    response.headers["ETag"] = etag(saved.version if saved else 0)
    about = version_json(saved) if saved else {"version": 0, "note": "", "rows_count": 0}
    return {"integration_id": integration_id, "kind": kind.value, **about, "rows": list(_rows(saved))}
