"""Field mappings of an integration: in force, versions, tried before they are saved."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import etag, if_match, page_body
from sync.core.mapping.mapper import with_rows
from sync.core.mapping.row import ROWS_MAX, SOURCE_CHARACTERS_MAX, FieldMapping, MappingRow, TransformUse
from sync.core.mapping.saved import SavedVersion, difference, mapping_subject, rows_json, version_json
from sync.core.run import Resource
from sync.ports import Integrations
from sync.use_cases.edit_mapping import EditMapping, finding_json

_NOTE_CHARACTERS_MAX: Final = 500
_VERSION_MAX: Final = 2**31 - 1
Version = Annotated[int, Path(ge=0, le=_VERSION_MAX, description="0: the default")]


class TransformBody(BaseModel):
    """A transform by name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=40)
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=20)


class RowBody(BaseModel):
    """A row; a target ending in `[*]` makes an item of each value of its source."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(max_length=200, description="field of the record, e.g. names[*].family")
    source: str = Field(default="", max_length=SOURCE_CHARACTERS_MAX, description="FHIRPath on the resource or item")
    transforms: list[TransformBody] = Field(default_factory=list, max_length=20)
    default: Any = None
    required: bool = False
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX)

    def row(self) -> MappingRow:
        """The row of the engine."""
        uses = tuple(TransformUse(each.name, each.parameters) for each in self.transforms)
        return MappingRow(self.target, self.source, uses, self.default, self.required, self.note)


class MappingBody(BaseModel):
    """A mapping as a whole."""

    model_config = ConfigDict(extra="forbid")

    rows: list[RowBody] = Field(max_length=ROWS_MAX)
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX, description="why it was changed")


class TryBody(BaseModel):
    """A sample, and the rows to try it with."""

    model_config = ConfigDict(extra="forbid")

    sample: dict[str, Any] = Field(description="a FHIR resource; nothing of it is kept")
    rows: list[RowBody] | None = Field(default=None, max_length=ROWS_MAX, description="without: the mapping in force")


class DryRunBody(BaseModel):
    """The rows to compare with the mapping in force."""

    model_config = ConfigDict(extra="forbid")

    rows: list[RowBody] = Field(max_length=ROWS_MAX)


class RestoreBody(BaseModel):
    """Which version is to be in force again."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(ge=0, le=_VERSION_MAX, description="0: the default")
    note: str = Field(default="", max_length=_NOTE_CHARACTERS_MAX)


def add_routes(api: APIRouter, mappings: EditMapping, integrations: Integrations, covered: Any) -> None:
    """`/mappings`; `covered`: what changes depend on."""
    _add_current(api, mappings, integrations, covered)
    _add_versions(api, mappings, integrations, covered)
    _add_trials(api, mappings, integrations)


def _add_current(api: APIRouter, mappings: EditMapping, integrations: Integrations, covered: Any) -> None:
    @api.get("/mappings", summary="Field mappings of an integration (PMS Systems > [Your PMS] > Field Mappings)")
    async def list_mappings(
        caller: Annotated[Caller, Depends(caller_of)],
        integration_id: Annotated[str, Query(max_length=40, description="the PMS system (integration)")],
    ) -> dict[str, Any]:
        """One per resource; version 0 is the default."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        versions = await mappings.book.current_versions(caller.tenant, known.id)
        items = [
            {"integration_id": known.id, "resource": each.value, "version": versions.get(mapping_subject(each), 0)}
            for each in Resource
        ]
        return page_body(items, None)

    @api.get("/mappings/{integration_id}/{resource}", summary="The field mapping in force")
    async def read(
        integration_id: str, resource: Resource, response: Response, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Its rows; its ETag is needed to change it. Until one is saved it is the default (version 0)."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        mapping, saved = await mappings.current(caller.tenant, known.id, resource)
        response.headers["ETag"] = etag(saved.version if saved else 0)
        return _mapping_json(known.id, mapping, saved)

    @api.put("/mappings/{integration_id}/{resource}", summary="Change a field mapping", dependencies=[covered])
    async def change(
        integration_id: str,
        resource: Resource,
        body: MappingBody,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """Refused with row and column of each mistake; runs use it from their next page."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        _, before = await mappings.current(caller.tenant, known.id, resource)
        after = before.version if before else 0
        if_match(request, after)
        saved, warnings = await mappings.save(
            caller, known.id, _given(resource, body.rows), after=after, note=body.note
        )
        response.headers["ETag"] = etag(saved.version)
        found = _mapping_json(known.id, mappings.of_version(resource, saved), saved)
        return {**found, "warnings": [finding_json(each) for each in warnings]}


def _add_versions(api: APIRouter, mappings: EditMapping, integrations: Integrations, covered: Any) -> None:
    @api.get("/mappings/{integration_id}/{resource}/versions", summary="Versions of a field mapping")
    async def versions(
        integration_id: str, resource: Resource, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Who saved what when, newest first; at most 200."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        found = await mappings.book.versions(caller.tenant, known.id, mapping_subject(resource))
        return page_body([version_json(each) for each in found], None)

    @api.get("/mappings/{integration_id}/{resource}/versions/{version}", summary="A version of a field mapping")
    async def read_version(
        integration_id: str, resource: Resource, version: Version, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Its rows; version 0 is the default."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        saved = await mappings.version(caller.tenant, known.id, resource, version)
        return _mapping_json(known.id, mappings.of_version(resource, saved), saved)

    @api.get("/mappings/{integration_id}/{resource}/difference", summary="What changed between two versions")
    async def compare(
        integration_id: str,
        resource: Resource,
        caller: Annotated[Caller, Depends(caller_of)],
        before: Annotated[int, Query(ge=0, le=_VERSION_MAX, description="the older version; 0: the default")],
        after: Annotated[int, Query(ge=0, le=_VERSION_MAX, description="the newer version")],
    ) -> dict[str, Any]:
        """Rows by target: added, removed, changed (with the columns)."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        both = [
            rows_json(mappings.of_version(resource, await mappings.version(caller.tenant, known.id, resource, each)))
            for each in (before, after)
        ]
        return difference(both[0], both[1], ("target",))

    @api.post(
        "/mappings/{integration_id}/{resource}:restore",
        summary="Put an older field mapping in force again",
        dependencies=[covered],
    )
    async def restore(
        integration_id: str,
        resource: Resource,
        body: RestoreBody,
        request: Request,
        response: Response,
        caller: Annotated[Caller, Depends(caller_of)],
    ) -> dict[str, Any]:
        """As a new version; it passes the checks of today."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        _, before = await mappings.current(caller.tenant, known.id, resource)
        after = before.version if before else 0
        if_match(request, after)
        older = mappings.of_version(resource, await mappings.version(caller.tenant, known.id, resource, body.version))
        saved, warnings = await mappings.save(
            caller, known.id, older, after=after, note=body.note, restored_from=body.version
        )
        response.headers["ETag"] = etag(saved.version)
        return {**_mapping_json(known.id, older, saved), "warnings": [finding_json(each) for each in warnings]}


def _add_trials(api: APIRouter, mappings: EditMapping, integrations: Integrations) -> None:
    @api.post("/mappings/{integration_id}/{resource}:test", summary="Try a field mapping on a sample (Data Validator)")
    async def test(
        integration_id: str, resource: Resource, body: TryBody, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Per row: input, output, findings; the record, or why there is none. Nothing is stored."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        if body.rows is None:
            mapping, _ = await mappings.current(caller.tenant, known.id, resource)
        else:
            mapping = _given(resource, body.rows)
        return await mappings.test(caller.tenant, known.id, mapping, body.sample)

    @api.post("/mappings/{integration_id}/{resource}:dry-run", summary="What a field mapping would change")
    async def dry_run(
        integration_id: str, resource: Resource, body: DryRunBody, caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, Any]:
        """Compared with the mapping in force over one page fetched now: counts per target, records as examples."""
        known = await integrations.get(caller.tenant, check_id(integration_id, "int"))
        return await mappings.dry_run(caller, known, _given(resource, body.rows))


def _given(resource: Resource, rows: list[RowBody]) -> FieldMapping:
    return with_rows(resource, tuple(each.row() for each in rows))


def _mapping_json(integration_id: str, mapping: FieldMapping, saved: SavedVersion | None) -> dict[str, Any]:
    about = version_json(saved) if saved else {"version": 0, "note": "the default", "rows_count": len(mapping.rows)}
    return {
        "integration_id": integration_id,
        "resource": mapping.record_type,
        "source_kind": mapping.source_kind.value,
        "source_type": mapping.source_type,
        **about,
        "rows": rows_json(mapping),
    }
