"""The pure decisions: configuration, methods, refreshing, causes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth_gateway.core.configuration import CHANNEL_KINDS, Document, Step, check_channel, moved, usable_url
from auth_gateway.core.methods import (
    METHODS,
    Grant,
    Method,
    MethodInput,
    check_fields,
    client_credentials,
    redeem,
    refresh,
)
from auth_gateway.core.refresh import BACKOFF_S_MAX, Decision, TokenState, after_failure, decide
from auth_gateway.core.token_findings import TokenEvidence, causes
from common.models.errors import SuiteError
from common.models.integration import ChannelKind, Vendor

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIFE = timedelta(seconds=300)
TOKEN = TokenState(NOW, NOW + LIFE, token_sha256="a" * 64)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "decision"),
    [
        (0, Decision.USE), (200, Decision.USE), (241, Decision.REFRESH_IF_FREE), (294, Decision.REFRESH_IF_FREE),
        (296, Decision.REFRESH),
    ],
)  # fmt: skip
def test_a_token_is_refreshed_ahead_of_its_end(seconds: float, decision: Decision) -> None:
    assert decide(TOKEN, at(seconds), share=0.8, jitter=0.0) is decision


def test_a_token_that_the_pms_refused_is_replaced_at_once_but_only_that_one() -> None:
    assert decide(TOKEN, NOW, share=0.8, jitter=0.0, rejected_sha256="a" * 64) is Decision.REFRESH
    assert decide(TOKEN, NOW, share=0.8, jitter=0.0, rejected_sha256="b" * 64) is Decision.USE


def test_after_a_refusal_asking_waits_while_the_old_token_serves_on() -> None:
    failed = after_failure(TOKEN, "credential.rejected", at(250))
    assert decide(failed, at(250.5), share=0.8, jitter=0.0) is Decision.USE
    assert decide(failed, at(252), share=0.8, jitter=0.0) is Decision.REFRESH_IF_FREE
    without = after_failure(TokenState(), "credential.rejected", NOW)
    assert decide(without, at(0.5), share=0.8, jitter=0.0) is Decision.REFUSE
    assert decide(without, at(1.5), share=0.8, jitter=0.0) is Decision.REFRESH


@given(st.integers(1, 50), st.floats(0, 10_000))
def test_the_pause_grows_to_a_bound(failures: int, retry_after_s: float) -> None:
    state = TokenState()
    pauses = []
    for _ in range(failures):
        state = after_failure(state, "peer.timeout", NOW, retry_after_s=retry_after_s)
        assert state.retry_at is not None
        pauses.append((state.retry_at - NOW).total_seconds())
    assert pauses == sorted(pauses)
    assert pauses[-1] <= BACKOFF_S_MAX
    assert state.failures == failures


@given(st.floats(0, 0.999), st.integers(0, 400), st.booleans())
def test_a_usable_token_is_never_refused(jitter: float, seconds: int, failed: bool) -> None:
    state = after_failure(TOKEN, "peer.timeout", at(seconds)) if failed else TOKEN
    decision = decide(state, at(seconds), share=0.8, jitter=jitter)
    assert (decision is Decision.REFUSE) <= (seconds >= 295 and failed)
    if seconds < 200:
        assert decision is Decision.USE


def document(state: str) -> Document:
    return Document("int_1", "ten_1", 1, NOW, NOW, {"name": "n", "state": state})


@pytest.mark.parametrize(
    ("state", "step", "after"),
    [
        ("draft", Step.RESUME, "active"), ("active", Step.PAUSE, "paused"), ("paused", Step.RESUME, "active"),
        ("paused", Step.PAUSE, "paused"),
    ],
)  # fmt: skip
def test_states_move_by_the_table(state: str, step: Step, after: str) -> None:
    assert moved(document(state), step) == after


def test_a_draft_can_not_be_paused() -> None:
    with pytest.raises(SuiteError) as refused:
        moved(document("draft"), Step.PAUSE)
    assert refused.value.code == "request.conflict"


def test_every_vendor_has_its_channels() -> None:
    assert set(CHANNEL_KINDS) == set(Vendor)
    assert ChannelKind.UNITY not in CHANNEL_KINDS[Vendor.EPIC]
    assert all(ChannelKind.HL7V2_IN in kinds for kinds in CHANNEL_KINDS.values())


@pytest.mark.parametrize(
    ("changed", "pointers"),
    [
        ({}, []),
        ({"kind": "unity"}, ["/kind"]),
        ({"endpoint": "ftp://x"}, ["/endpoint"]),
        ({"time_zone": "Chicago", "endpoint": ""}, ["/endpoint", "/time_zone"]),
    ],
)
def test_a_channel_that_does_not_fit_names_its_fields(changed: dict[str, str], pointers: list[str]) -> None:
    channel = {"kind": "fhir", "endpoint": "https://pms.example/r4", "time_zone": "America/Chicago", **changed}
    if not pointers:
        check_channel(Vendor.EPIC, channel)
        return
    with pytest.raises(SuiteError) as refused:
        check_channel(Vendor.EPIC, channel)
    assert [field.pointer for field in refused.value.fields] == pointers


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://pms.example/api", True), ("http://10.0.0.1:8080", True), ("https://user:pw@pms.example", False),
        ("https://pms.example/?a=b", False), ("https://pms.example/#x", False),
        ("//pms.example", False), ("https://", False),
        ("https://pms.example:0", False), ("https://pms.example:99999", False),
        ("https://pms.example/\r\nHost: x", False),
    ],
)  # fmt: skip
def test_usable_urls(url: str, usable: bool) -> None:
    assert usable_url(url) is usable


def given_input(secret: str | None = None) -> MethodInput:
    return MethodInput(
        "app", "https://pms.example/token", ("a", "b"), secret, NOW, "jti_1", lambda claims: f"signed:{claims['jti']}"
    )


def test_a_signed_assertion_carries_the_grant_itself() -> None:
    call = client_credentials(METHODS["private_key_jwt"], given_input())
    assert call.auth_method is None
    assert call.form["client_assertion"] == "signed:jti_1"
    assert (call.form["grant_type"], call.form["scope"]) == ("client_credentials", "a b")
    assert "jti_1" not in repr(call)


@pytest.mark.parametrize("name", ["client_secret_basic", "client_secret_post"])
def test_secrets_go_where_the_method_says(name: str) -> None:
    call = client_credentials(METHODS[name], given_input("s3cret"))
    assert (call.auth_method, call.secret) == (name, "s3cret")
    assert "s3cret" not in repr(call)


def test_a_refresh_and_a_code_carry_what_their_standard_says() -> None:
    renewed = refresh(METHODS["private_key_jwt"], given_input(), "r3fresh")
    assert {"grant_type": "refresh_token", "refresh_token": "r3fresh"}.items() <= renewed.form.items()
    assert "scope" not in renewed.form
    assert "r3fresh" not in repr(renewed)
    redeemed = redeem(
        METHODS["client_secret_basic"], given_input("s"), code="c0de", redirect_uri="https://s/cb", verifier="v" * 43
    )
    assert redeemed.form == {
        "grant_type": "authorization_code", "code": "c0de", "redirect_uri": "https://s/cb", "code_verifier": "v" * 43,
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda row: row.name)
def test_a_method_names_what_it_lacks_and_what_it_has_no_use_for(method: Method) -> None:
    given = set(method.needs) | ({"header"} if method.name == "api_key" else set())
    check_fields(method, given, grant=Grant.CLIENT_CREDENTIALS, kept=())
    for name in method.needs:
        with pytest.raises(SuiteError) as refused:
            check_fields(method, given - {name}, grant=Grant.CLIENT_CREDENTIALS, kept=())
        assert [(one.pointer, one.code) for one in refused.value.fields] == [(f"/{name}", "missing")]
        check_fields(method, given - {name}, grant=Grant.CLIENT_CREDENTIALS, kept={name})
    with pytest.raises(SuiteError) as refused:
        check_fields(method, given | {"nonsense"}, grant=Grant.CLIENT_CREDENTIALS, kept=())
    assert [(one.pointer, one.code) for one in refused.value.fields] == [("/nonsense", "not-used")]


def test_a_grant_of_a_person_needs_the_page_to_send_them_to() -> None:
    with pytest.raises(SuiteError) as refused:
        check_fields(METHODS["private_key_jwt"], {"client_id", "token_url"}, grant=Grant.AUTHORIZATION_CODE, kept=())
    assert [one.pointer for one in refused.value.fields] == ["/authorize_url"]


def test_a_dead_grant_is_not_asked_again_and_a_margin_is_kept() -> None:
    dead = after_failure(TOKEN, "credential.reconnect-needed", NOW, reconnect=True)
    assert decide(dead, at(10_000), share=0.8, jitter=0) is Decision.REFUSE
    assert decide(dead, at(100), share=0.8, jitter=0) is Decision.USE
    assert decide(TOKEN, at(239), share=0.8, jitter=0, margin_s=60) is Decision.USE
    assert decide(TOKEN, at(241), share=0.8, jitter=0, margin_s=60) is Decision.REFRESH_IF_FREE
    assert decide(TOKEN, at(20), share=0.8, jitter=0, margin_s=900) is Decision.USE


EVIDENCE = TokenEvidence("invalid_client", 400, 200, None, NOW - timedelta(days=9), True, True, True, True)


NEVER: dict[str, object] = {"worked_before": False, "worked_since_change": False}


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({}, "secret.expired"),
        ({"secret_expires_at": NOW - timedelta(days=1)}, "secret.expired"),
        ({"secret_expires_at": NOW + timedelta(days=1)}, "client.disabled"),
        ({"clock_offset_ms": 600_000}, "clock.skew"),
        (NEVER | {"credential_changed_at": NOW - timedelta(hours=1)}, "registration.fresh"),
        (NEVER, "client.wrong"),
        ({"worked_since_change": False}, "client.wrong"),
        (NEVER | {"key_published": False}, "key.unpublished"),
        (NEVER | {"key_read": False}, "key.unread"),
        (NEVER | {"other_environment": "test"}, "client.other-environment"),
    ],
)  # fmt: skip
def test_the_supported_cause_comes_first(changed: dict[str, object], first: str) -> None:
    found = causes(replace(EVIDENCE, **changed), NOW)
    assert found[0].code == first
    assert found[0].supported
    assert len({cause.code for cause in found}) == 8
