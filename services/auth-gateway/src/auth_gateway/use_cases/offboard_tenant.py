"""Offboard a practice: say what will be destroyed, export it, destroy its keys, have everything deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from auth_gateway.core.offboarding import (
    SWEPT_AFTER,
    ExportFile,
    Offboarding,
    Phase,
    check_destroyable,
    check_runs,
    file_name,
    not_downloaded,
    since_export,
    state_json,
)
from auth_gateway.ports import Tenant
from common.models.clock import Clock
from common.models.errors import SuiteError
from common.runtime.authentication import Caller

_log = logging.getLogger("auth_gateway.offboarding")


class Offboardings(Protocol):
    """Where offboardings and their exports are; each change in one transaction with its audit entries and events."""

    async def begin(self, caller: Caller, tenant: str, reason: str, services: Sequence[str]) -> Offboarding:
        """Its people are refused and its integrations rest, from now on. Raises SuiteError `tenant.not-found`,
        `tenant.offboarding`, `tenant.offboarded`."""

    async def of(self, tenant: str) -> Offboarding | None:
        """The practice's offboarding, None when there is none."""

    async def unfinished(self) -> Sequence[Offboarding]:
        """Those that something is left to do for."""

    async def files(self, offboarding_id: str) -> Sequence[ExportFile]:
        """By name."""

    async def plan(self, offboarding_id: str, names: Sequence[str]) -> None:
        """Files to be made; those that are there stay as they are."""

    async def append(self, offboarding_id: str, file: ExportFile, page: bytes, cursor: str | None) -> ExportFile:
        """A page (lines) at the end of a file. Raises SuiteError `lease.lost` when another replica did it."""

    async def close(self, offboarding_id: str, file: ExportFile) -> None:
        """The file is whole: its SHA-256 is kept."""

    async def exported(self, offboarding: Offboarding) -> None:
        """All files are whole: the manifest is made."""

    async def manifest(self, tenant: str) -> bytes:
        """JSON. Raises SuiteError `tenant.export-not-ready`."""

    def read(self, offboarding_id: str, file: ExportFile) -> AsyncIterator[bytes]:
        """A file's bytes. Raises SuiteError `tenant.export-gone`."""

    async def downloaded(self, caller: Caller, offboarding: Offboarding, file: ExportFile) -> None:
        """Somebody has it."""

    async def destroy(self, caller: Caller, offboarding: Offboarding, reason: str) -> None:
        """Data keys, signing keys, credentials and grants go, and every service is told to delete."""

    async def sweep(self, offboarding: Offboarding) -> None:
        """Tell them once more, for what was on its way."""

    async def delete_export(self, offboarding: Offboarding) -> None:
        """Its key and its pages."""


class TenantHolders(Protocol):
    """The services. All raise SuiteError `service.unavailable`."""

    async def counts(self, service: str, tenant: str) -> Mapping[str, int]:
        """Rows by part."""

    async def page(self, service: str, tenant: str, part: str, cursor: str) -> tuple[bytes, str | None]:
        """Lines of JSON from a place on ("" the beginning), and where it goes on."""

    async def runs_going(self, tenant: str) -> int:
        """Runs that have not ended."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator says."""

    reason: str
    confirmation: str | None
    despite_runs: bool
    without_download: bool


@dataclass(frozen=True, slots=True)
class OffboardTenant:
    """See the module's text. `confirm` makes a text that only who has looked can know."""

    store: Offboardings
    holders: TenantHolders
    tenant: Callable[[str], Awaitable[Tenant]]
    confirm: Callable[[str], Awaitable[str]]
    services: Sequence[str]
    clock: Clock
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def preview(self, tenant: str) -> dict[str, Any]:
        """What the next step does, what stands in its way, and its confirmation. Raises SuiteError
        `tenant.not-found`, `tenant.offboarded`, `service.unavailable`."""
        found = await self.tenant(tenant)
        offboarding = await self.store.of(tenant)
        if offboarding is not None and offboarding.phase in (Phase.DESTROYING, Phase.OFFBOARDED):
            raise SuiteError("tenant.offboarded")
        counts = {service: await self.holders.counts(service, tenant) for service in self.services}
        files = await self.store.files(offboarding.id) if offboarding is not None else []
        warnings = not_downloaded(files) if offboarding is not None else []
        return {
            "tenant": tenant,
            "name": found.name,
            "phase": offboarding.phase.value if offboarding is not None else None,
            "next": "suspends the practice and makes its export" if offboarding is None else "destroys its keys",
            "destroyed": {
                "rows": counts,
                "what": "Data keys, signing keys, credentials, grants, and every row of every service. For good.",
            },
            "stays": "The audit log (six years), the practice's name, and the export for the time it is kept.",
            "runs_going": await self.holders.runs_going(tenant),
            "not_downloaded": warnings,
            "since_export": since_export(files, counts) if offboarding is not None else {},
            "confirmation": await self._confirmation(tenant, offboarding),
        }

    async def go_on(self, caller: Caller, tenant: str, asked: Asked) -> dict[str, Any]:
        """The next step: begin, or destroy. Raises SuiteError `tenant.not-found`, `tenant.offboard-unconfirmed`,
        `tenant.runs-going`, `tenant.export-not-ready`, `tenant.export-not-downloaded`, `service.unavailable`."""
        await self.tenant(tenant)
        offboarding = await self.store.of(tenant)
        if offboarding is not None and offboarding.phase in (Phase.DESTROYING, Phase.OFFBOARDED):
            return await self.state(tenant)
        if asked.confirmation != await self._confirmation(tenant, offboarding):
            raise SuiteError("tenant.offboard-unconfirmed")
        runs = await self.holders.runs_going(tenant)
        if offboarding is None:
            check_runs(runs, despite_runs=asked.despite_runs)
            await self.store.begin(caller, tenant, asked.reason, self.services)
            self.wake.set()
            return await self.state(tenant)
        files = await self.store.files(offboarding.id)
        check_destroyable(
            offboarding, files, runs, despite_runs=asked.despite_runs, without_download=asked.without_download
        )
        await self.store.destroy(caller, offboarding, asked.reason)
        return await self.state(tenant)

    async def state(self, tenant: str) -> dict[str, Any]:
        """How far it is. Raises SuiteError `tenant.not-found`."""
        offboarding = await self.here(tenant)
        return state_json(offboarding, await self.store.files(offboarding.id))

    async def here(self, tenant: str) -> Offboarding:
        """The offboarding of a practice; raises SuiteError `tenant.not-found` when it has none."""
        offboarding = await self.store.of(tenant)
        if offboarding is None:
            raise SuiteError("tenant.not-found", "No such practice is being offboarded.")
        return offboarding

    async def file(self, tenant: str, name: str) -> tuple[Offboarding, ExportFile]:
        """A whole file. Raises SuiteError `tenant.not-found`, `tenant.export-gone`, `tenant.export-not-ready`,
        `request.not-found`."""
        offboarding = await self.here(tenant)
        if offboarding.export_deleted:
            raise SuiteError("tenant.export-gone")
        found = next((file for file in await self.store.files(offboarding.id) if file.name == name), None)
        if found is None:
            raise SuiteError("request.not-found")
        if found.sha256 is None:
            raise SuiteError("tenant.export-not-ready")
        return offboarding, found

    async def download(self, caller: Caller, offboarding: Offboarding, file: ExportFile) -> AsyncIterator[bytes]:
        """Its bytes; noted as downloaded once the last one was taken."""
        async for part in self.store.read(offboarding.id, file):
            yield part
        await self.store.downloaded(caller, offboarding, file)

    async def work(self, every_s: float) -> None:
        """Make exports and end what is over, again and again, until cancelled."""
        while True:
            self.wake.clear()
            for offboarding in await self.store.unfinished():
                try:
                    await self.advance(offboarding)
                except SuiteError as error:
                    # One practice's export waits for a service; the others do not wait for it.
                    extra = {"code": error.code, "tenant": offboarding.tenant}
                    _log.warning("offboarding waits", extra=extra)
            try:
                async with asyncio.timeout(every_s):
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def advance(self, offboarding: Offboarding) -> None:
        """Whatever can be done for one now. Raises SuiteError of the services."""
        now = self.clock.now()
        if offboarding.phase is Phase.EXPORTING:
            await self._export(offboarding)
            return
        ended, swept = offboarding.ended_at, offboarding.swept_at
        if offboarding.phase is Phase.OFFBOARDED and swept is None and ended and now >= ended + SWEPT_AFTER:
            await self.store.sweep(offboarding)
        over = offboarding.kept_until is not None and now >= offboarding.kept_until
        # Before the keys are destroyed the export is the only way to what was promised: it is kept until then.
        if over and not offboarding.export_deleted and offboarding.phase in (Phase.DESTROYING, Phase.OFFBOARDED):
            await self.store.delete_export(offboarding)

    async def _export(self, offboarding: Offboarding) -> None:
        for service in offboarding.services:
            parts = await self.holders.counts(service, offboarding.tenant)
            await self.store.plan(offboarding.id, [file_name(service, part) for part in parts])
        for found in await self.store.files(offboarding.id):
            file = found
            while file.cursor is not None:
                page, following = await self.holders.page(file.service, offboarding.tenant, file.part, file.cursor)
                file = await self.store.append(offboarding.id, file, page, following)
            if file.sha256 is None:
                await self.store.close(offboarding.id, file)
        await self.store.exported(offboarding)

    async def _confirmation(self, tenant: str, offboarding: Offboarding | None) -> str:
        told = "none" if offboarding is None else f"{offboarding.phase}/{offboarding.manifest_sha256}"
        return await self.confirm(f"{tenant}/{told}")
