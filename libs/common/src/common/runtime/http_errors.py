"""Every failure leaves as a problem detail (RFC 9457); nothing of the request is repeated in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, get_args

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core.core_schema import ErrorType
from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.models.errors import FieldError, SuiteError, problem
from common.runtime.http import RefusedBody, is_json

PROBLEM_JSON: Final = "application/problem+json"
# The library's own kinds of errors, without those whose message repeats a part of what was sent, or the text of an
# exception that may.
_PLAIN_TYPES: Final = frozenset(get_args(ErrorType)) - {
    "value_error", "assertion_error", "union_tag_invalid", "uuid_parsing", "url_parsing", "url_syntax_violation",
    "get_attribute_error", "iteration_error", "mapping_type", "bytes_invalid_encoding", "no_such_attribute",
}  # fmt: skip
_log = logging.getLogger("common.http")

_BY_STATUS: Final = {
    400: "request.malformed",
    404: "request.not-found",
    405: "request.method-not-allowed",
    413: "request.too-large",
    415: "request.unsupported-media-type",
}


def problem_response(error: SuiteError, request_id: str) -> Response:
    """The response of a failure."""
    headers = dict(error.headers)
    if error.row.status == 503:
        headers.setdefault("Retry-After", "2")
    return Response(
        orjson.dumps(problem(error, request_id=request_id)),
        status_code=error.row.status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


def install(app: FastAPI) -> None:
    """Register the handlers of the failures that FastAPI and Starlette raise themselves."""

    async def suite_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, SuiteError)
        if error.row.status >= 500:
            _log.warning("request failed", extra={"code": error.code, "fault": error.row.fault.value})
        return problem_response(error, request_id_of(request))

    async def http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, RefusedBody):
            return problem_response(error.problem, request_id_of(request))
        code = _BY_STATUS.get(error.status_code, "request.malformed" if error.status_code < 500 else "internal.error")
        return problem_response(SuiteError(code, headers=dict(error.headers or {})), request_id_of(request))

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if _is_no_json(request) and any(tuple(row["loc"]) == ("body",) for row in error.errors()):
            return problem_response(SuiteError("request.unsupported-media-type"), request_id_of(request))
        return problem_response(_validation_problem(error.errors()), request_id_of(request))

    app.add_exception_handler(SuiteError, suite_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(RequestValidationError, validation)


def request_id_of(request: Request) -> str:
    """The id the gate gave to this request."""
    return str(getattr(request.state, "request_id", ""))


def _is_no_json(request: Request) -> bool:
    """Whether a body came as something else than JSON (the framework then leaves it unread)."""
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return has_body and not is_json(request.headers.get("content-type"))


def _validation_problem(errors: Sequence[Any]) -> SuiteError:
    """Pydantic's findings as JSON pointers (RFC 6901), without the input that was wrong."""
    if any(error["type"] in {"json_invalid", "json_type"} for error in errors):
        return SuiteError("request.malformed")
    fields = []
    for error in errors:
        place, *path = error["loc"] or ("body",)
        pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
        shown = pointer if place == "body" else f"{place}:{'/'.join(map(str, path))}"
        fields.append(FieldError(shown, str(error["type"]), _detail(error)))
    return SuiteError("request.invalid", f"{len(fields)} field(s) are wrong.", fields=fields)


def _detail(error: Any) -> str:
    # Messages of validators and of the types above may quote the input; the others come from the schema alone.
    return str(error["msg"]) if error["type"] in _PLAIN_TYPES else "The value is not allowed here."
