"""The PMS client against answers in a row: tokens, retries, waits, links."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from common.models.clock import FixedClock, SequenceIds
from common.models.errors import SuiteError
from common.runtime.outbound import Answer
from pms.fhir import patients_by_id
from sync.adapters.pms_client import HttpPms

PAGE = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "p1"}}]}


def answer(status: int = 200, body: Any = PAGE, **headers: str) -> Answer:
    text = b"" if body is None else json.dumps(body).encode()
    named = {
        "content-type": "application/fhir+json",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Answer(status, httpx.Headers(named), text, 1.0, 0)


class Outside:
    """In the place of `Outbound` and `Peers`: answers in a row (the last one stays), and what was asked."""

    def __init__(self, answers: Sequence[Answer | SuiteError], at: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, str, str]] = []
        self.token_requests: list[dict[str, str]] = []
        self.pauses: list[float] = []
        self.clock = FixedClock(at)

    async def request(self, method: str, url: str, *arguments: Any, **named: Any) -> Any:
        if method == "auth-gateway":
            self.token_requests.append(named["json"])
            token = {"access_token": f"token-{len(self.token_requests)}", "expires_at": "2026-03-01T16:30:00.000Z"}
            return httpx.Response(200, json=token)
        self.calls.append((url, named["headers"].get("Authorization", ""), named["exchange"].operation))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, SuiteError):
            raise found
        return found

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)


@pytest.fixture
def outside(make: Any) -> Any:
    """(answers) → what stands outside, and a search that asks it."""
    from datetime import UTC, datetime

    def build(*answers: Answer | SuiteError) -> Any:
        there = Outside(answers, datetime(2026, 3, 1, 15, 30, tzinfo=UTC))
        client = HttpPms(
            there, there, there.clock, SequenceIds(), timeout_s=1.0, wait_s_max=10.0, pause=there.pause  # type: ignore[arg-type]
        )  # fmt: skip
        found = make.integration()
        channel = found.channels["fhir"]

        async def search() -> Any:
            return await client.search(found, channel, patients_by_id(["p1", "p2"]))

        async def follow(link: str) -> Any:
            return await client.follow(found, channel, link, "Patient.search")

        return there, search, follow

    return build


async def test_a_page_is_had_with_a_token_that_is_kept(outside: Any) -> None:
    there, search, follow = outside(answer())
    assert [row["id"] for row in (await search()).matches] == ["p1"]
    await follow("https://pms.test/R4/Patient?sessionID=1")
    assert there.calls == [
        ("https://pms.test/R4/Patient?_id=p1,p2&_count=2", "Bearer token-1", "Patient.search"),
        ("https://pms.test/R4/Patient?sessionID=1", "Bearer token-1", "Patient.search"),
    ]
    assert there.token_requests == [{}]
    there.clock.advance(3600)
    await search()
    assert len(there.token_requests) == 2


async def test_a_refused_token_is_exchanged_once(outside: Any) -> None:
    there, search, _ = outside(answer(401, None, www_authenticate="Bearer"), answer())
    await search()
    assert there.token_requests == [{}, {"rejected_token_sha256": hashlib.sha256(b"token-1").hexdigest()}]
    assert there.calls[1][1] == "Bearer token-2"
    there, search, _ = outside(answer(401, None))
    with pytest.raises(SuiteError, match=r"peer\.unauthorized"):
        await search()
    assert len(there.calls) == 2
    assert there.pauses == []


async def test_retry_after_is_honoured_within_the_limit(outside: Any) -> None:
    there, search, _ = outside(answer(429, None, retry_after="2"), answer(429, None, retry_after="3"), answer())
    await search()
    assert there.pauses == [2.0, 3.0]
    there, search, _ = outside(answer(429, None, retry_after="4"))
    with pytest.raises(SuiteError, match=r"peer\.rate-limited"):
        await search()
    assert there.pauses == [4.0, 4.0]
    there, search, _ = outside(answer(429, None, retry_after="600"))
    with pytest.raises(SuiteError, match=r"peer\.rate-limited"):
        await search()
    assert there.pauses == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (answer(503, None), "peer.unavailable"),
        (SuiteError("peer.timeout"), "peer.timeout"),
        (SuiteError("peer.connect"), "peer.connect"),
    ],
)
async def test_what_may_pass_is_tried_three_times(outside: Any, failure: Answer | SuiteError, code: str) -> None:
    there, search, _ = outside(failure)
    with pytest.raises(SuiteError) as failed:
        await search()
    assert failed.value.code == code
    assert len(there.calls) == 3
    there, search, _ = outside(failure, answer())
    assert len((await search()).matches) == 1


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (answer(403, None, www_authenticate='Bearer error="insufficient_scope"'), "peer.forbidden"),
        (answer(200, {"hello": 1}), "peer.unreadable"),
        (answer(200, {"resourceType": "Patient", "id": "p1"}), "peer.unreadable"),
        (answer(404, None, content_type="text/html"), "peer.rejected"),
        (SuiteError("peer.tls"), "peer.tls"),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(outside: Any, failure: Answer | SuiteError, code: str) -> None:
    there, search, _ = outside(failure)
    with pytest.raises(SuiteError) as failed:
        await search()
    assert failed.value.code == code
    assert len(there.calls) == 1


async def test_the_token_goes_to_no_other_host(outside: Any) -> None:
    there, _, follow = outside(answer())
    with pytest.raises(SuiteError, match=r"peer\.unreadable"):
        await follow("https://elsewhere.test/R4/Patient?page=2")
    assert there.calls == []
