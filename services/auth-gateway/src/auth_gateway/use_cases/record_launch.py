"""Record a SMART launch: whose it is by its `iss`, what is wrong with its parameters.

Whoever opens the launch URL is a browser without a token of ours, so little is believed and less is kept: names of
parameters and findings, at most `LAUNCHES_KEPT_MAX` per practice and `LAUNCHES_PER_MINUTE_MAX` new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from auth_gateway.core.launch import Launch, LaunchTarget
from common.models.clock import Clock, Ids, instant_text
from common.models.errors import SuiteError
from common.models.paging import Page
from pms.smart_launch import check_parameters, issuer_key, kind_of, shown_names

LAUNCHES_KEPT_MAX: Final = 1_000
LAUNCHES_PER_MINUTE_MAX: Final = 120


class Launches(Protocol):
    """Launches, and whose FHIR base is whose."""

    async def targets(self, issuer: str) -> Sequence[LaunchTarget]:
        """Integrations with a FHIR channel at this base (`pms.smart_launch.issuer_key`)."""

    async def add(self, launch: Launch, *, kept_max: int, since: datetime, new_max: int) -> None:
        """Keeps it and drops the oldest over the limit. Raises SuiteError `launch.too-many` when there are `new_max`
        of its practice since then."""

    async def list(self, tenant: str, integration_id: str | None, cursor: str | None, limit: int) -> Page[Launch]:
        """Newest first."""


async def record_launch(
    launches: Launches, clock: Clock, ids: Ids, parameters: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """What the launch looks like to us. Raises SuiteError `launch.issuer-unknown` or `launch.too-many`.

    The answer goes to a stranger's browser: it holds findings about what that browser sent, and nothing of ours.
    """
    issuer = issuer_key(next((value for name, value in parameters if name == "iss"), ""))
    targets = await launches.targets(issuer) if issuer else ()
    if not targets:
        raise SuiteError("launch.issuer-unknown", "No FHIR channel has this iss as its endpoint.")
    now = clock.now()
    ways: list[tuple[str, list[dict[str, Any]]]] = []
    for target in targets:
        findings = [finding.as_json() for finding in check_parameters(target.vendor, parameters)]
        launch = Launch(
            ids.new("lau"), target.tenant, target.integration_id, kind_of(parameters).value, shown_names(parameters),
            now, findings,
        )  # fmt: skip
        await launches.add(
            launch,
            kept_max=LAUNCHES_KEPT_MAX,
            since=now - timedelta(minutes=1),
            new_max=LAUNCHES_PER_MINUTE_MAX,
        )
        ways.append((launch.id, findings))
    identifier, findings = ways[0]
    return {
        "id": identifier,
        "kind": kind_of(parameters).value,
        "status": "incomplete" if findings else "complete",
        "findings": findings,
        "launched_at": instant_text(now),
    }
