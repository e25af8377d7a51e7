"""The go-live checklist of an integration: one row per check, each decided from evidence that was gathered before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from auth_gateway.core.methods import METHODS, TokenKind

Status = Literal["passed", "failed", "not-checked"]


@dataclass(frozen=True, slots=True)
class CredentialEvidence:
    """A credential as far as a checklist needs it."""

    name: str
    method: str
    obtained_at: datetime | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an integration. None: whoever knows it could not be asked."""

    body: Mapping[str, Any]
    credentials: Sequence[CredentialEvidence]
    permissions: Mapping[str, Any] | None = None
    schedules: Sequence[Mapping[str, Any]] | None = None
    runs: Sequence[Mapping[str, Any]] | None = None
    quarantined: int | None = None
    webhooks: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a check ended, and what it saw (names, states, counts; no patient)."""

    status: Status
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist. `next_step` is said unless it passed."""

    name: str
    title: str
    decide: Callable[[Evidence], Verdict] = field(repr=False)
    next_step: str = ""


def _channels(known: Evidence) -> Verdict:
    names = sorted(known.body["channels"])
    return Verdict("passed" if names else "failed", {"channels": names})


def _credentials(known: Evidence) -> Verdict:
    named = {row["credential"] for row in known.body["channels"].values() if row.get("credential")}
    held = {row.name: row for row in known.credentials}
    missing = sorted(named - set(held))
    used = [held[name] for name in sorted(named & set(held))]
    tokens = [row for row in used if METHODS[row.method].kind is not TokenKind.NONE]
    failing = [row.name for row in tokens if row.error_code is not None or row.obtained_at is None]
    seen = {"missing": missing, "failing": failing, "working": [row.name for row in tokens if row.name not in failing]}
    if missing or failing:
        return Verdict("failed", seen)
    return Verdict("passed" if tokens or not named else "not-checked", seen)


def _permissions(known: Evidence) -> Verdict:
    found = known.permissions
    if found is None:
        return Verdict("not-checked")
    seen = {name: found.get(name) for name in ("missing", "missing_scopes", "unknown")}
    return Verdict("passed" if found.get("status") == "passed" else "failed", seen)


def _schedules(known: Evidence) -> Verdict:
    if known.schedules is None:
        return Verdict("not-checked")
    on = sorted(f"{row['resource']} {row['mode']}" for row in known.schedules if row["enabled"])
    only_feeds = not any(row["kind"] in {"fhir", "unity"} for row in known.body["channels"].values())
    return Verdict("passed" if on or only_feeds else "failed", {"enabled": on})


def _trial_run(known: Evidence) -> Verdict:
    if known.runs is None:
        return Verdict("not-checked")
    newest: dict[str, str] = {}
    for row in known.runs:
        if row["state"] in {"finished", "failed"}:
            newest.setdefault(row["resource"], row["state"])
    failed = sorted(name for name, state in newest.items() if state == "failed")
    if not newest:
        return Verdict("not-checked", {"finished": [], "failed": []})
    done = sorted(name for name, state in newest.items() if state == "finished")
    return Verdict("failed" if failed else "passed", {"finished": done, "failed": failed})


def _quarantine(known: Evidence) -> Verdict:
    if known.quarantined is None:
        return Verdict("not-checked")
    return Verdict("passed" if known.quarantined == 0 else "failed", {"open": known.quarantined})


def _alerts(known: Evidence) -> Verdict:
    if known.webhooks is None:
        return Verdict("not-checked")
    on = [row["id"] for row in known.webhooks if row.get("enabled", True)]
    return Verdict("passed" if on else "failed", {"webhooks": len(on)})


def _contacts(known: Evidence) -> Verdict:
    roles = sorted({row["role"] for row in known.body.get("contacts", ())})
    wanted = {"practice", "vendor"}
    return Verdict("passed" if wanted <= set(roles) else "failed", {"roles": roles})


CHECKS: Final[tuple[Check, ...]] = (
    Check("channels", "Channels", _channels, "Put a channel: PUT /auth/v1/integrations/{id}/channels/{name}."),
    Check("credentials", "Credentials", _credentials, "Run Test Connection on each credential named in the evidence."),
    Check(
        "permissions", "Permissions", _permissions, "Run Check Permissions, and send its request to the administrator."
    ),
    Check("schedules", "Schedules", _schedules, "Add a schedule with POST /sync/v1/schedules."),
    Check("trial-run", "Trial run", _trial_run, "Start a run with POST /sync/v1/runs and look at how it ended."),
    Check("quarantine", "Rows that were not taken", _quarantine, "Look at GET /sync/v1/quarantine, mend what is open."),
    Check("alerts", "Alerts reach somebody", _alerts, "Add a webhook with POST /alerts/v1/webhooks and test it."),
    Check("contacts", "Contacts", _contacts, "Name a contact of the practice and one of the vendor in `contacts`."),
)


def checklist(known: Evidence) -> list[dict[str, Any]]:
    """Every line with its verdict; a line that nobody could look at is not-checked, never passed."""
    lines = []
    for check in CHECKS:
        verdict = check.decide(known)
        lines.append(
            {
                "check": check.name,
                "title": check.title,
                "status": verdict.status,
                "evidence": dict(verdict.evidence),
                "next_step": None if verdict.status == "passed" else check.next_step,
            }
        )
    return lines
