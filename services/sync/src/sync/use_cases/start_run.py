"""Ask for a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.models.clock import Clock, Ids
from common.models.errors import SuiteError
from common.models.integration import ChannelKind, Integration, IntegrationState
from pms.offers import offers_of
from sync.core.run import Mode, Resource, Run
from sync.core.run_state import RunState
from sync.core.strategy import strategy_of
from sync.ports import Integrations, RunBook, Session


@dataclass(frozen=True, slots=True)
class StartRun:
    """Checks and inserts a queued run; `wake` tells the workers of this replica."""

    integrations: Integrations
    runs: RunBook
    clock: Clock
    ids: Ids
    wake: Callable[[], None]

    async def check(self, tenant: str, integration_id: str, resource: Resource) -> Integration:
        """The integration, when such a run is possible.

        Raises SuiteError `integration.not-found`, `integration.not-active`, `channel.not-found` or
        `run.resource-unsupported`.
        """
        integration = await self.integrations.get(tenant, integration_id)
        strategy_of(offers_of(integration.vendor, integration.capability_overrides), resource)
        if integration.channel_of(ChannelKind.FHIR) is None:
            raise SuiteError("channel.not-found", "The integration has no channel of the kind fhir.")
        if integration.state is not IntegrationState.ACTIVE:
            raise SuiteError("integration.not-active")
        return integration

    async def queue(
        self, session: Session, integration: Integration, resource: Resource, mode: Mode, *, trigger: str, by: str
    ) -> Run:
        """Insert the run in this transaction. Raises SuiteError `run.already-running` with the id of the one alive."""
        now = self.clock.now()
        run = Run(
            id=self.ids.new("run"),
            tenant=integration.tenant,
            integration_id=integration.id,
            resource=resource,
            mode=mode,
            trigger=trigger,
            requested_by=by,
            state=RunState.QUEUED,
            created_at=now,
            updated_at=now,
        )
        living = await self.runs.add(session, run)
        if living is not None:
            raise SuiteError(
                "run.already-running", f"Its id is {living}.", headers={"Location": f"/sync/v1/runs/{living}"}
            )
        return run
