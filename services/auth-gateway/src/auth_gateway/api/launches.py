"""SMART launches: the launch URL, its list, and the check of what came back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from auth_gateway.use_cases.record_launch import Launches
from common.models.errors import FieldError, SuiteError
from common.models.identifiers import check_id
from common.models.integration import Vendor
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import LIMIT_DEFAULT, CursorText, Limit, page_body
from pms.smart_launch import (
    CONTEXTS,
    PARAMETERS_MAX,
    TEMPLATE_CHARACTERS_MAX,
    Asked,
    Finding,
    Kind,
    check_template,
    check_token,
    message_of,
)

Who = Annotated[Caller, Depends(caller_of)]
Record = Callable[[Sequence[tuple[str, str]]], Awaitable[dict[str, Any]]]
_FORM_BYTES_MAX: Final = 16_384
_CONTEXTS: Final = [row.name for row in CONTEXTS]


class LaunchCheck(BaseModel):
    """What came back from a launch, pasted: at least one of `token_response`, `message` and `template`."""

    model_config = ConfigDict(extra="forbid")

    vendor: Vendor
    kind: Kind = Field(default=Kind.EHR, description="ehr: opened from the chart; standalone: opened by itself")
    scopes: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=100, description="scopes of the authorization request"
    )
    aud: str | None = Field(default=None, max_length=2000, description="aud of the authorization request")
    iss: str | None = Field(default=None, max_length=2000, description="iss of the launch")
    wanted: list[str] = Field(
        default=["patient"], max_length=10, description=f"contexts that the app needs: {', '.join(_CONTEXTS)}"
    )
    token_response: dict[str, Any] | None = Field(default=None, description="body of the token response; not kept")
    message: str | None = Field(
        default=None, max_length=TEMPLATE_CHARACTERS_MAX, description="what PowerChart or the EHR showed, or error_uri"
    )
    template: str | None = Field(
        default=None, max_length=TEMPLATE_CHARACTERS_MAX, description="PowerChart launch template"
    )


def router(launches: Launches, record: Record) -> APIRouter:
    """The routes; paths begin after /auth/v1."""
    api = APIRouter(tags=["auth-gateway: SMART launches"])

    @api.get("/launch", summary="SMART launch URL")
    async def launch(request: Request, response: Response) -> dict[str, Any]:
        """Opened by the EHR in the user's browser with iss and launch. Says what the launch lacks."""
        return await _recorded(record, request.query_params.multi_items(), response)

    @api.post("/launch", summary="SMART launch URL, as a form")
    async def launch_form(request: Request, response: Response) -> dict[str, Any]:
        """The same parameters as application/x-www-form-urlencoded."""
        body = await request.body()
        if len(body) > _FORM_BYTES_MAX:
            raise SuiteError("request.too-large", f"The limit is {_FORM_BYTES_MAX} bytes.")
        try:
            fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
        except ValueError as error:
            raise SuiteError("request.malformed", "Expected a form.") from error
        return await _recorded(record, fields, response)

    @api.get("/launches", summary="SMART launches")
    async def list_launches(
        caller: Who,
        limit: Limit = LIMIT_DEFAULT,
        cursor: CursorText = None,
        integration_id: Annotated[str | None, Query(max_length=64)] = None,
    ) -> dict[str, Any]:
        """Newest first: which parameters came, and what was wrong with them; no values."""
        wanted = check_id(integration_id, "int") if integration_id is not None else None
        page = await launches.list(caller.tenant, wanted, cursor, limit)
        return page_body([item.as_json() for item in page.items], page.next)

    @api.post("/launches:check", summary="Check what came back from a launch")
    async def check(body: LaunchCheck, caller: Who) -> dict[str, Any]:
        """Which context is missing in a token response and why; what a message means; what a template lacks.

        Nothing of it is kept or repeated.
        """
        return _checked(body)

    return api


async def _recorded(record: Record, parameters: Sequence[tuple[str, str]], response: Response) -> dict[str, Any]:
    # The URL holds the launch value: neither kept by a cache nor told to the next page.
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return await record(parameters[:PARAMETERS_MAX])


def _checked(body: LaunchCheck) -> dict[str, Any]:
    unknown = [name for name in body.wanted if name not in _CONTEXTS]
    if unknown:
        raise SuiteError(
            "request.invalid", fields=[FieldError("/wanted", "unsupported", f"Expected: {', '.join(_CONTEXTS)}.")]
        )
    if body.token_response is None and body.message is None and body.template is None:
        expected = "Give token_response, message or template."
        raise SuiteError("request.invalid", fields=[FieldError("", "missing", expected)])
    present: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    findings: list[Finding] = []
    if body.token_response is not None:
        asked = Asked(body.kind, tuple(body.scopes), body.aud, body.iss, tuple(dict.fromkeys(body.wanted)))
        report = check_token(body.vendor, asked, orjson.dumps(body.token_response))
        present, missing = report.present, report.missing
        findings += report.findings
    if body.message is not None:
        found = message_of(body.message)
        findings += [found] if found else []
    if body.template is not None:
        findings += check_template(body.template)
    return {
        "status": "failed" if findings else "passed",
        "present": list(present),
        "missing": list(missing),
        "findings": [finding.as_json() for finding in findings],
        "message_known": None if body.message is None else message_of(body.message) is not None,
    }
