"""A FHIR R4 server of no particular vendor, as the standard describes one (R4 §3.1.0): everything is offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulator.core.answer import FHIR_JSON, Answer, json_answer
from simulator.core.dialect import Dialect, Interaction, Served, Site
from simulator.core.open_search import KINDS

TOKEN_LIFE_S: Final = 300
_ALL: Final = frozenset(Interaction)
_PARAMETERS: Final = (
    ("_id", "token"), ("identifier", "token"), ("patient", "reference"), ("practitioner", "reference"),
    ("location", "reference"), ("date", "date"), ("status", "token"), ("name", "string"), ("family", "string"),
    ("given", "string"), ("birthdate", "date"),
)  # fmt: skip
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "Appointment": ("status", "participant"),
    "Encounter": ("status", "class"),
}


def _refuse(kind: str, text: str, status: int) -> Answer:
    issue = {"severity": "error", "code": kind, "diagnostics": text}
    return json_answer(status, {"resourceType": "OperationOutcome", "issue": [issue]}, FHIR_JSON)


def _challenged(status: int, error: str) -> Answer:
    answer = _refuse("login" if status == 401 else "forbidden", error, status)
    return Answer(status, answer.body, {**answer.headers, "WWW-Authenticate": f'Bearer error="{error}"'})


def _unauthorized(_: Site) -> Answer:
    return _challenged(401, "invalid_token")


def _forbidden(_: Site) -> Answer:
    return _challenged(403, "insufficient_scope")


GENERIC: Final = Dialect(
    software="Practice Studio Integration Simulator (FHIR R4)",
    served={kind: Served(_ALL, _PARAMETERS, required=_REQUIRED.get(kind, ())) for kind in sorted(KINDS)},
    dated=KINDS,
    page_parameter="_page",
    repeats=False,
    refuse=_refuse,
    unauthorized=_unauthorized,
    forbidden=_forbidden,
    stale=412,
    unconditional=None,
    missing_field=422,
    methods=("private_key_jwt", "client_secret_basic", "client_secret_post"),
    scopes=tuple(f"system/{kind}.cruds" for kind in sorted(KINDS)),
)
