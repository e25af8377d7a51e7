"""What every request meets before and around its handler: who may, how large, how deep, and how a failure looks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator

from common.models.access import CONFIGURE, READ_STATE, Access, Role
from common.models.errors import ERRORS, SuiteError
from common.runtime.authentication import Caller, caller_of
from common.runtime.http import JSON_DEPTH_MAX, etag, if_match
from common.runtime.module import Module
from common.runtime.runtime import Runtime
from common.testing import OTHER_TENANT, TENANT, RunningSuite, make_test_runtime, running

BODY_BYTES_MAX = 4096
CANARY = "Rivera"
JSON = {"content-type": "application/json"}
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: float = Field(gt=0)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=20)
    count: int = Field(default=0, ge=0, le=10)
    code: UUID | None = None
    at: datetime | None = None
    colour: Literal["red", "blue"] = "red"
    animals: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    words: dict[str, int] = {}
    extra: dict[str, Any] = Field(default_factory=dict, alias="ex/tra~")

    @field_validator("name")
    @classmethod
    def _said(cls, value: str) -> str:
        if value.startswith("Mrs"):
            raise ValueError(f"no titles in {value}")
        return value


class Unprintable(Exception):
    """What a driver may raise: its text holds a row."""


def add_things(router: APIRouter) -> None:
    owners = {"1": TENANT}

    @router.get("/things")
    async def things(limit: Annotated[int, Query(ge=1, le=10)] = 5) -> dict[str, int]:
        return {"limit": limit}

    @router.post("/things", status_code=201)
    async def add(body: Thing) -> Thing:
        return body

    @router.get("/things/{thing_id}")
    async def thing(thing_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, str]:
        if owners.get(thing_id) != caller.tenant:
            raise SuiteError("record.not-found")
        return {"id": thing_id}

    @router.put("/things/{thing_id}")
    async def change(thing_id: str, request: Request, response: Response) -> dict[str, str]:
        if_match(request, 3)
        response.headers["etag"] = etag(4)
        return {"id": thing_id}

    @router.get("/open")
    async def anybody() -> dict[str, str]:
        return {}


def add_failures(router: APIRouter) -> None:
    @router.post("/things:explode")
    async def explode() -> None:
        raise Unprintable(f"duplicate row ({CANARY}, 1980-02-14)")

    @router.post("/things:unavailable")
    async def unavailable() -> None:
        raise SuiteError("database.unavailable")

    @router.get("/things-late")
    async def late() -> StreamingResponse:
        def parts() -> Iterable[bytes]:
            yield b"first"
            raise Unprintable(CANARY)

        return StreamingResponse(parts())


def build(runtime: Runtime) -> Module:
    router = APIRouter(tags=["things"])
    add_things(router)
    add_failures(router)
    access = [
        Access("GET", "/things", READ_STATE),
        Access("POST", "/things", CONFIGURE),
        Access("GET", "/things/{thing_id}", READ_STATE),
        Access("PUT", "/things/{thing_id}", CONFIGURE),
        Access("POST", "/things:explode", CONFIGURE),
        Access("POST", "/things:unavailable", CONFIGURE),
        Access("GET", "/things-late", READ_STATE),
        Access("GET", "/open", frozenset(), "for the tests of what is open to all"),
    ]
    return Module("things", "/things", router, access)


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[RunningSuite]:
    runtime = make_test_runtime(
        tmp_path, "things", body_bytes_max=BODY_BYTES_MAX, cors_origins=("https://app.example",)
    )
    async with running(runtime, build) as up:
        yield up


def expect_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem detail as the catalogue has it, with everything that every response carries."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    body: dict[str, Any] = response.json()
    row = ERRORS[code]
    assert (body["code"], body["status"], body["title"], body["next_step"]) == (code, status, row.title, row.next_step)
    assert body["request_id"] == response.headers["x-request-id"]
    assert TRACEPARENT.fullmatch(response.headers["traceparent"])
    assert CANARY not in response.text
    return body


# ---- authenticate before parsing

BAD_BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "malformed": (JSON, b"{"),
    "wrong types": (JSON, b'{"name": 1}'),
    "not JSON": ({"content-type": "text/plain"}, b"hello"),
    "too large": (JSON, b" " * (BODY_BYTES_MAX + 1)),
    "too deep": (JSON, b"[" * 2000),
    "not UTF-8": (JSON, b'{"name": "\xff"}'),
}


@pytest.mark.parametrize(("headers", "content"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_who_calls_is_asked_before_the_body_is_read(
    suite: RunningSuite, headers: dict[str, str], content: bytes
) -> None:
    async with suite.client() as nobody:
        response = await nobody.post("/things/v1/things", content=content, headers=headers)
        expect_problem(response, 401, "auth.token-missing")
        assert response.headers["www-authenticate"] == "Bearer"
    async with suite.client(token="not.a.token") as forger:
        expect_problem(
            await forger.post("/things/v1/things", content=content, headers=headers), 401, "auth.token-invalid"
        )
    async with suite.client(Role.VIEWER) as viewer:
        body = expect_problem(
            await viewer.post("/things/v1/things", content=content, headers=headers), 403, "auth.forbidden"
        )
        assert "integration-admin" in body["detail"]


@pytest.mark.parametrize("path", ["/things/v1/things", "/things/v1/nothing"])
async def test_nothing_of_a_strangers_body_is_received(suite: RunningSuite, path: str) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
        "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "server": ("suite.test", 80),
        "client": ("127.0.0.1", 1), "headers": [(b"content-type", b"application/json"), (b"content-length", b"5")],
    }  # fmt: skip
    await suite.host.app(scope, receive, send)
    assert sent[0]["status"] == (401 if path.endswith("/things") else 404)


# ---- bodies that cannot be

MALFORMED: dict[str, bytes] = {
    "cut off": b'{"name": "Rivera',
    "empty object key": b'{: "Rivera"}',
    "two values": b'{"name": "Rivera"} {}',
    "not UTF-8": b'{"name": "Rivera\xff"}',
    "UTF-16": '{"name": "Rivera"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"name": "Rivera"}',
    "NaN": b'{"name": "Rivera", "ex/tra~": {"a": NaN}}',
    "Infinity": b'{"name": "Rivera", "ex/tra~": {"a": -Infinity}}',
    "a lone surrogate": b'{"name": "Rivera\\ud800"}',
    "a lone low surrogate": b'{"name": "Rivera\\udc00\\ud800"}',
    "a lone surrogate as a key": b'{"name": "Rivera", "ex/tra~": {"\\ud800": 1}}',
    "NUL in a text": b'{"name": "Rivera\\u0000"}',
    "NUL after a backslash": b'{"name": "Rivera\\\\\\u0000"}',
    "deep lists": b'{"name": "Rivera", "ex/tra~": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
    "deep objects": b'{"name": "Rivera", "ex/tra~": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
    "one level too deep": b'{"name": "Rivera", "ex/tra~": {"a": '
    + b"[" * (JSON_DEPTH_MAX - 1) + b"]" * (JSON_DEPTH_MAX - 1) + b"}}",
    "as deep as can be": b"[" * (BODY_BYTES_MAX // 2) + b"]" * (BODY_BYTES_MAX // 2),
    "a number of four thousand digits": b'{"name": "Rivera", "count": ' + b"9" * 4000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_json_is_refused_without_being_repeated(suite: RunningSuite, content: bytes) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post("/things/v1/things", content=content, headers=JSON)
    if b"9999" in content:
        assert response.status_code in {400, 422}
        assert "9999" not in response.text
        return
    expect_problem(response, 400, "request.malformed")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'{"name": "\\ud83d\\ude00"}', "\N{GRINNING FACE}"),
        ('{"name": "Zoë"}'.encode(), "Zoë"),
        (b'{"name": "\\\\u0000"}', "\\u0000"),
        (b'{"name": "\\\\ud800"}', "\\ud800"),
        (b'{"name": "[[[[{{{{"}', "[[[[{{{{"),
        (b'{"name": "a", "ex/tra~": {"a": ' + b"[" * (JSON_DEPTH_MAX - 2) + b"]" * (JSON_DEPTH_MAX - 2) + b"}}", "a"),
        (b'  {"name" : "a"}\n', "a"),
    ],
)
async def test_what_only_looks_wrong_passes(suite: RunningSuite, content: bytes, name: str) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post("/things/v1/things", content=content, headers=JSON)
    assert (response.status_code, response.json()["name"]) == (201, name)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/fhir+json", "Application/JSON"]
)
async def test_types_built_on_json_are_read(suite: RunningSuite, content_type: str) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        good = await client.post("/things/v1/things", content=b'{"name": "a"}', headers={"content-type": content_type})
        bad = await client.post(
            "/things/v1/things", content=b'{"name": "\\ud800"}', headers={"content-type": content_type}
        )
    assert good.status_code == 201
    expect_problem(bad, 400, "request.malformed")


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    """A body without a Content-Length."""
    for part in parts:
        yield part


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("chunked", [False, True])
async def test_another_media_type_is_named(suite: RunningSuite, content_type: str | None, chunked: bool) -> None:
    headers = {"content-type": content_type} if content_type else {}
    body = b'{"name": "Rivera"}'
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post("/things/v1/things", content=in_parts(body) if chunked else body, headers=headers)
    expect_problem(response, 415, "request.unsupported-media-type")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("over", [False, True])
async def test_a_body_has_a_limit(suite: RunningSuite, chunked: bool, over: bool) -> None:
    start = b'{"name": "Rivera"}'
    body = start + b" " * (BODY_BYTES_MAX - len(start) + over)
    content = in_parts(body[:1000], body[1000:3000], body[3000:]) if chunked else body
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post("/things/v1/things", content=content, headers=JSON)
    if over:
        problem = expect_problem(response, 413, "request.too-large")
        assert str(BODY_BYTES_MAX) in problem["detail"]
        assert "PS_BODY_BYTES_MAX" in problem["detail"]
    else:
        assert response.status_code == 201


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (b"9" * 19, "request.too-large"), (b"9" * 5000, "request.too-large"), (b"-1", "request.malformed"),
        (b"1e3", "request.malformed"), (b"", "request.malformed"), (b"\xb2", "request.malformed"),
    ],
)  # fmt: skip
async def test_a_length_that_is_none(suite: RunningSuite, length: bytes, code: str) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        request = client.build_request("POST", "/things/v1/things", content=b"{}", headers=JSON)
        others = [pair for pair in request.headers.raw if pair[0].lower() != b"content-length"]
        request.headers = httpx.Headers([*others, (b"content-length", length)])
        expect_problem(await client.send(request), ERRORS[code].status, code)


# ---- fields that are wrong

WRONG: dict[str, tuple[dict[str, Any] | str | list[Any] | None, list[str]]] = {
    "missing": ({}, ["/name"]),
    "too long": ({"name": CANARY * 10}, ["/name"]),
    "a validator's own words": ({"name": f"Mrs {CANARY}"}, ["/name"]),
    "wrong types, one each": ({"name": 7, "count": CANARY, "at": CANARY}, ["/name", "/count", "/at"]),
    "out of bounds": ({"name": "a", "count": 11}, ["/count"]),
    "no such choice": ({"name": "a", "colour": CANARY}, ["/colour"]),
    "no UUID": ({"name": "a", "code": CANARY}, ["/code"]),
    "an unknown kind": ({"name": "a", "animals": [{"kind": "cat"}, {"kind": CANARY}]}, ["/animals/1"]),
    "inside a list": ({"name": "a", "animals": [{"kind": "dog", "weight": CANARY}]}, ["/animals/0/dog/weight"]),
    "a name with a slash and a tilde": ({"name": "a", "ex/tra~": CANARY}, ["/ex~1tra~0"]),
    "a key with a slash": ({"name": "a", "words": {"a/b": CANARY}}, ["/words/a~1b"]),
    "an unknown field": ({"name": "a", "more": CANARY}, ["/more"]),
    "a list": ([CANARY], [""]),
    "a text": (CANARY, [""]),
    "null": (None, [""]),
}


@pytest.mark.parametrize(("sent", "pointers"), WRONG.values(), ids=WRONG.keys())
async def test_every_wrong_field_has_a_pointer_and_nothing_is_repeated(
    suite: RunningSuite, sent: Any, pointers: list[str]
) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        response = await client.post("/things/v1/things", content=json.dumps(sent), headers=JSON)
    problem = expect_problem(response, 422, "request.invalid")
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert all(error["code"] and error["detail"] for error in problem["errors"])
    assert all("`" not in error["detail"] for error in problem["errors"]), "not even a character of it"


async def test_a_missing_body_and_a_wrong_parameter_are_told_apart(suite: RunningSuite) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        body = expect_problem(await client.post("/things/v1/things"), 422, "request.invalid")
        parameter = expect_problem(await client.get(f"/things/v1/things?limit={CANARY}"), 422, "request.invalid")
    assert [error["pointer"] for error in body["errors"]] == [""]
    assert [error["pointer"] for error in parameter["errors"]] == ["query:limit"]


# ---- addresses and methods


@pytest.mark.parametrize(
    "path",
    [
        "/", "/nothing", "/things", "/things/v1", "/things/v1/things/", "/things/v1/things/1/2", "//things/v1/things",
        "/things/v1/Things", "/livez/", "/docs/oauth2-redirect",
    ],
)  # fmt: skip
@pytest.mark.parametrize("token", [False, True])
async def test_an_unknown_address_is_a_problem_detail(suite: RunningSuite, path: str, token: bool) -> None:
    async with suite.client(*([Role.TENANT_ADMIN] if token else [])) as client:
        expect_problem(
            await client.get(httpx.URL("http://suite.test").copy_with(raw_path=path.encode())), 404, "request.not-found"
        )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/things/v1/things", "GET, HEAD, POST"),
        ("DELETE", "/things/v1/things/1", "GET, HEAD, PUT"),
        ("GET", "/things/v1/things:explode", "POST"),
        ("HEAD", "/things/v1/things:explode", "POST"),
        ("OPTIONS", "/things/v1/things", "GET, HEAD, POST"),
        ("POST", "/livez", "GET, HEAD"),
        ("TRACE", "/metrics", "GET, HEAD"),
    ],
)
async def test_another_method_is_told_which_there_are(suite: RunningSuite, method: str, path: str, allow: str) -> None:
    async with suite.client(Role.TENANT_ADMIN) as client:
        response = await client.request(method, path)
    assert response.headers["allow"] == allow
    if method == "HEAD":
        assert (response.status_code, response.content) == (405, b"")
    else:
        expect_problem(response, 405, "request.method-not-allowed")


async def test_head_is_get_without_the_body(suite: RunningSuite) -> None:
    async with suite.client(Role.VIEWER) as client:
        got, head = await client.get("/things/v1/things"), await client.head("/things/v1/things")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    async with suite.client() as nobody:
        assert (await nobody.head("/things/v1/things")).status_code == 401


async def test_a_foreign_tenants_thing_is_not_there(suite: RunningSuite) -> None:
    async with suite.client(Role.VIEWER) as own:
        assert (await own.get("/things/v1/things/1")).status_code == 200
    seen = []
    async with suite.client(Role.VIEWER, tenant=OTHER_TENANT) as other:
        for thing in ("1", "2"):
            problem = expect_problem(await other.get(f"/things/v1/things/{thing}"), 404, "record.not-found")
            seen.append({name: value for name, value in problem.items() if name != "request_id"})
    assert seen[0] == seen[1], "what exists elsewhere looks like what does not exist"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "request.precondition-required"),
        ('"3"', None), ('"1", "3"', None), ("*", None),
        ('W/"3"', None),  # proxies that compress weaken a tag on its way; the version in it stays what it is
        ('"2"', "request.version-changed"), ("3", "request.version-changed"), ("", "request.version-changed"),
        ('"33"', "request.version-changed"), ("'3'", "request.version-changed"),
    ],
)  # fmt: skip
async def test_a_change_names_the_version_that_it_changes(
    suite: RunningSuite, header: str | None, code: str | None
) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        headers = {} if header is None else {"if-match": header}
        response = await client.put("/things/v1/things/1", headers=headers)
    if code is None:
        assert (response.status_code, response.headers["etag"]) == (200, '"4"')
        return
    expect_problem(response, ERRORS[code].status, code)
    if code == "request.version-changed":
        assert response.headers["etag"] == '"3"'


# ---- traces and failures of our own


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/things/v1/things", 200), ("GET", "/things/v1/open", 200), ("GET", "/livez", 200),
        ("GET", "/nothing", 404), ("PATCH", "/things/v1/things", 405), ("POST", "/things/v1/things", 422),
        ("POST", "/things/v1/things:explode", 500), ("POST", "/things/v1/things:unavailable", 503),
    ],
)  # fmt: skip
async def test_every_response_carries_the_trace(suite: RunningSuite, method: str, path: str, status: int) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with suite.client(Role.TENANT_ADMIN) as client:
        own = await client.request(method, path)
        carried = await client.request(method, path, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
        broken = await client.request(method, path, headers={"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"})
    assert [response.status_code for response in (own, carried, broken)] == [status] * 3
    for response in (own, carried, broken):
        assert TRACEPARENT.fullmatch(response.headers["traceparent"])
        assert response.headers["x-request-id"].startswith("req_")
        assert (response.headers["cache-control"], response.headers["x-content-type-options"]) == (
            "no-store",
            "nosniff",
        )
    assert carried.headers["traceparent"].split("-")[1] == trace
    assert "00f067aa0ba902b7" not in carried.headers["traceparent"]
    assert own.headers["traceparent"].split("-")[1] not in {trace, "0" * 32}
    assert broken.headers["traceparent"].split("-")[1] != "0" * 32


async def test_an_unexpected_failure_says_nothing_of_itself(suite: RunningSuite) -> None:
    async with suite.client(Role.INTEGRATION_ADMIN) as client:
        problem = expect_problem(await client.post("/things/v1/things:explode"), 500, "internal.error")
        assert "Unprintable" not in json.dumps(problem)
        assert "detail" not in problem
        unavailable = await client.post("/things/v1/things:unavailable")
    expect_problem(unavailable, 503, "database.unavailable")
    assert unavailable.headers["retry-after"] == "2"


async def test_a_failure_in_the_middle_of_an_answer_cuts_it_off(suite: RunningSuite) -> None:
    async with suite.client(Role.VIEWER) as client:
        with pytest.raises(RuntimeError, match="already started"):
            await client.get("/things/v1/things-late")


# ---- pages of other origins

PREFLIGHT = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization,if-match"}


@pytest.mark.parametrize(("origin", "allowed"), [("https://app.example", True), ("https://evil.example", False)])
async def test_a_page_may_call_when_its_origin_is_named(suite: RunningSuite, origin: str, allowed: bool) -> None:
    async with suite.client() as nobody:
        preflight = await nobody.options("/things/v1/things/1", headers={"origin": origin, **PREFLIGHT})
        refused = await nobody.get("/things/v1/things", headers={"origin": origin})
    async with suite.client(Role.VIEWER) as client:
        answered = await client.get("/things/v1/things", headers={"origin": origin})
    expect_problem(refused, 401, "auth.token-missing")
    assert preflight.status_code == (200 if allowed else 400)
    for response in (preflight, refused, answered):
        assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert "access-control-allow-credentials" not in response.headers
        assert "Origin" in response.headers["vary"]
    if allowed:
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert "If-Match" in preflight.headers["access-control-allow-headers"]
        assert "ETag" in answered.headers["access-control-expose-headers"]


async def test_without_the_setting_no_origin_is_let_in(tmp_path: Path) -> None:
    async with running(make_test_runtime(tmp_path, "things"), build) as up, up.client() as nobody:
        preflight = await nobody.options("/things/v1/things/1", headers={"origin": "https://app.example", **PREFLIGHT})
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers
