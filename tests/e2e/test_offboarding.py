"""A practice is offboarded while the process is killed again and again (`kill -9`)."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.runtime.authentication import sign_service_assertion
from common.runtime.keyring import load_key_encryption_key
from common.runtime.peers import TOKEN_EXCHANGE, TOKEN_TYPE_JWT
from common.runtime.system import SystemClock, SystemIds
from e2e.journey import wait_for_patients
from e2e.suite_process import Suite, embedded_suite, eventually, wait_until_welcome

pytestmark = [pytest.mark.e2e]
SERVICES = ("auth-gateway", "sync", "hl7-gateway", "diagnostics", "alerts")
STAYS = {"audit", "tenant", "offboarding"}


def operator_token(suite: Suite) -> str:
    process = next(iter(suite.processes.values()))
    kek = load_key_encryption_key(key=process.environment.get("PS_KEY", ""), key_file="", data=suite.data)
    form = {
        "grant_type": TOKEN_EXCHANGE, "subject_token_type": TOKEN_TYPE_JWT, "tenant": "platform",
        "subject_token": sign_service_assertion(kek, "operator:local", SystemClock(), SystemIds()),
        "scope": "platform-operator", "lifetime_s": "3600",
    }  # fmt: skip
    answer = httpx.post(suite.url("/auth/v1/token"), data=form, trust_env=False)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def ask(suite: Suite, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.request(method, suite.url(path), json=body, headers=headers, timeout=30, trust_env=False)


def kill_and_start(suite: Suite) -> None:
    suite.processes["suite"].kill()
    suite.processes["suite"].start()
    wait_until_welcome(suite)


def confirmed(suite: Suite, token: str, tenant: str) -> httpx.Response:
    path, body = f"/auth/v1/tenants/{tenant}:offboard", {"reason": "contract ended", "despite_runs": True}
    preview = ask(suite, token, "POST", path, body)
    assert preview.status_code == 200, preview.text
    return ask(suite, token, "POST", path, {**body, "confirmation": preview.json()["confirmation"]})


def rows_left(data: Path, tenant: str) -> dict[str, int]:
    found = {}
    for path in sorted(data.glob("*.sqlite3")):
        with sqlite3.connect(path) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                columns = {row[1] for row in connection.execute(f"PRAGMA table_info('{table}')")}
                if "tenant" not in columns or table in STAYS:
                    continue
                statement = f'SELECT count(*) FROM "{table}" WHERE tenant = ?'
                if count := connection.execute(statement, (tenant,)).fetchone()[0]:
                    found[f"{path.stem}.{table}"] = count
        connection.close()
    return found


def test_kill_nine_at_every_step_and_nothing_is_lost_or_left(tmp_path: Path) -> None:
    with embedded_suite(tmp_path / "data") as suite:
        wait_for_patients(suite)
        tenant = suite.call("GET", "/auth/v1/me")["tenant"]
        token = operator_token(suite)
        records = rows_left(suite.data, tenant)["sync.record"]
        begun = confirmed(suite, token, tenant)
        assert (begun.status_code, begun.json()["phase"]) == (202, "exporting"), begun.text
        # Once the practice's people are refused, the token in the file is one that the next start cannot use.
        eventually(lambda: suite.request("GET", "/auth/v1/me").status_code == 403, within_s=30)
        kill_and_start(suite)
        path = f"/auth/v1/tenants/{tenant}/offboarding"

        def exported() -> Any:
            state = ask(suite, token, "GET", path).json()
            return state if state["phase"] == "exported" else None

        files = eventually(exported, within_s=60)["export"]["files"]
        kill_and_start(suite)
        assert {file["name"]: file["rows"] for file in files}["sync/record.ndjson"] >= records
        for file in files:
            body = ask(suite, token, "GET", f"{path}/files/{file['name']}").content
            assert (hashlib.sha256(body).hexdigest(), body.count(b"\n")) == (file["sha256"], file["rows"])
        ended = confirmed(suite, token, tenant)
        assert ended.status_code == 202, ended.text
        kill_and_start(suite)
        eventually(lambda: ask(suite, token, "GET", path).json()["phase"] == "offboarded", within_s=60)
        state = ask(suite, token, "GET", path).json()
        assert (state["missing"], state["deleted_rows"]["sync"] > records) == ([], True)
        # What was on its way when the process died may have come after; the second round an hour later takes it.
        late = rows_left(suite.data, tenant)
        assert set(late) <= {"diagnostics.exchange"}, late
        # The suite has a practice again, another one.
        assert suite.call("GET", "/auth/v1/me")["tenant"] != tenant


def test_services_apart_give_their_parts_and_acknowledge(separate: Suite) -> None:
    wait_for_patients(separate)
    tenant, token = separate.call("GET", "/auth/v1/me")["tenant"], operator_token(separate)
    path = f"/auth/v1/tenants/{tenant}/offboarding"
    assert confirmed(separate, token, tenant).status_code == 202

    def at(phase: str) -> Any:
        state = ask(separate, token, "GET", path).json()
        return state if state["phase"] == phase else None

    files = eventually(lambda: at("exported"), within_s=60)["export"]["files"]
    assert {file["name"].split("/")[0] for file in files} == set(SERVICES)
    records = next(file for file in files if file["name"] == "sync/record.ndjson")
    body = ask(separate, token, "GET", f"{path}/files/{records['name']}").content
    assert (hashlib.sha256(body).hexdigest(), body.count(b"\n") > 0) == (records["sha256"], True)
    refused = confirmed(separate, token, tenant)
    assert (refused.status_code, refused.json()["code"]) == (409, "tenant.export-not-downloaded")
    for file in files:
        assert ask(separate, token, "GET", f"{path}/files/{file['name']}").status_code == 200
    assert confirmed(separate, token, tenant).status_code == 202
    ended = eventually(lambda: at("offboarded"), within_s=60)
    assert (sorted(ended["deleted_rows"]), ended["missing"]) == (sorted(SERVICES), [])
    assert ended["deleted_rows"]["sync"] >= records["rows"]

    def gone() -> bool:
        answers = [separate.request("GET", route) for route in ("/auth/v1/me", "/sync/v1/runs", "/alerts/v1/alerts")]
        return [answer.status_code for answer in answers] == [410, 410, 410]

    assert eventually(gone, within_s=30)
