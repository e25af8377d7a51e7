"""Get one page of a run from the PMS and map it; nothing is stored here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from common.models.errors import SuiteError
from common.models.integration import Channel, Integration
from pms.fhir import Bundle, appointments_in_window, by_ids, references
from pms.offers import Offers, offers_of
from sync.core.incoming import Incoming, Origin
from sync.core.mapping.mapper import Mapper
from sync.core.mapping.value_map import Unmapped
from sync.core.page import OPERATION, id_key, page_key, page_request
from sync.core.rejection import Rejection
from sync.core.run import Mode, Resource, Run, RunCursor
from sync.core.strategy import Strategy, fetches_patients, strategy_of
from sync.core.windows import windows_of
from sync.ports import Pms, RecordBook, RunBook
from sync.use_cases.load_mapper import LoadMapper

FOLLOWED_PAGES_MAX: Final = 100
Resources = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class FetchedPage:
    """A page: rows to reconcile, rows that could not be mapped, the resources as they came (by position), the `next`
    link, and what the run has to note (`once`: twice means standing still; `asked`: resources that were asked for).
    `values`: codes that no value map names, by kind."""

    next_link: str | None
    once: list[str]
    mapper: Mapper = field(default_factory=Mapper)
    asked: list[str] = field(default_factory=list)
    incoming: list[Incoming] = field(default_factory=list)
    unmapped: list[tuple[int, str, str, Rejection]] = field(default_factory=list)
    resources: list[Mapping[str, Any]] = field(default_factory=list)
    values: dict[str, Unmapped] = field(default_factory=dict)

    def add(self, run: Run, resources: Resources, expected: str) -> None:
        """Map resources of a type into the page."""
        for resource in resources:
            position = len(self.resources)
            self.resources.append(resource)
            mapped = self.mapper(resource, expected)
            if isinstance(mapped, Rejection):
                self.unmapped.append((position, expected.lower(), _id_of(resource), mapped))
                continue
            row = Incoming(position, Origin.FHIR, run.integration_id, run.id, mapped.record, mapped.external_id)
            self.incoming.append(row)
        # Without an await in between: the mapper is shared by the runs of its integration.
        for kind, counted in self.mapper.take_unmapped().items():
            self.values.setdefault(kind, Unmapped()).update(counted)


@dataclass(frozen=True, slots=True)
class FetchPage:
    """See the module's text."""

    pms: Pms
    runs: RunBook
    records: RecordBook
    page_records_max: int
    load_mapper: LoadMapper

    async def __call__(self, run: Run, cursor: RunCursor, integration: Integration, channel: Channel) -> FetchedPage:
        """Raises SuiteError `peer.*`, `credential.*` or `mapping.refused`."""
        mapper = await self.load_mapper(run.tenant, integration.id)
        offers = _offers(integration)
        source = offers.of(Resource.APPOINTMENT.fhir)
        page_records = min(self.page_records_max, source.page_records_max if source else self.page_records_max)
        wanted = page_request(run, cursor, page_records=page_records)
        if wanted.link is None:
            bundle = await self.pms.search(integration, channel, wanted.request)
        else:
            bundle = await self.pms.follow(integration, channel, wanted.link, OPERATION)
        appointments = [row for row in bundle.matches if row.get("resourceType") == Resource.APPOINTMENT.fhir]
        content_key = page_key(cursor, [_id_of(row) for row in appointments])
        page = FetchedPage(bundle.next, [wanted.key, *([content_key] if content_key else [])], mapper)
        patients = list(dict.fromkeys(one for row in appointments for one in references(row, Resource.PATIENT.fhir)))
        if strategy_of(offers, run.resource) is Strategy.REFERENCED:
            had = await self.runs.seen(run.id, [id_key(one) for one in patients])
            unknown = [one for one in patients if id_key(one) not in had]
            page.asked = [id_key(one) for one in unknown]
            page.add(run, await self._by_ids(integration, channel, unknown), Resource.PATIENT.fhir)
            return page
        if fetches_patients(offers):
            # An appointment needs its patient; those we know already are the business of the patients' own runs.
            missing = await self.records.unlinked(run.tenant, integration.id, Resource.PATIENT.value, patients)
            unknown = [one for one in patients if one in missing]
            page.add(run, await self._by_ids(integration, channel, unknown), Resource.PATIENT.fhir)
        page.add(run, appointments, Resource.APPOINTMENT.fhir)
        return page

    async def sample(self, integration: Integration, channel: Channel, resource: Resource, today: date) -> Resources:
        """Up to one page of what an incremental run would see; nothing is noted.

        Raises SuiteError `run.resource-unsupported`, `peer.*` or `credential.*`.
        """
        offers = _offers(integration)
        strategy_of(offers, resource)
        window = windows_of(Mode.INCREMENTAL, today)[0]
        source = offers.of(Resource.APPOINTMENT.fhir)
        count = min(self.page_records_max, source.page_records_max if source else self.page_records_max)
        bundle = await self.pms.search(
            integration, channel, appointments_in_window(window.first, window.last, count=count)
        )
        appointments = [row for row in bundle.matches if row.get("resourceType") == Resource.APPOINTMENT.fhir]
        if resource is Resource.APPOINTMENT:
            return appointments
        patients = list(dict.fromkeys(one for row in appointments for one in references(row, Resource.PATIENT.fhir)))
        return await self._by_ids(integration, channel, patients)

    async def _by_ids(self, integration: Integration, channel: Channel, ids: Sequence[str]) -> Resources:
        """Patients by id, as many per request as the vendor allows. An id that may not stand in a list is left out."""
        row = _offers(integration).of(Resource.PATIENT.fhir)
        size = row.ids_per_request_max if row else 1
        askable = [one for one in ids if "," not in one]
        found: list[Mapping[str, Any]] = []
        for start in range(0, len(askable), size):
            request = by_ids(Resource.PATIENT.fhir, askable[start : start + size])
            bundle = await self.pms.search(integration, channel, request)
            found += _patients(bundle)
            followed: set[str] = set()
            while bundle.next is not None:
                if bundle.next in followed or len(followed) >= FOLLOWED_PAGES_MAX:
                    raise SuiteError("run.no-progress")
                followed.add(bundle.next)
                bundle = await self.pms.follow(integration, channel, bundle.next, request.operation)
                found += _patients(bundle)
        return list({_id_of(resource): resource for resource in found}.values())


def _offers(integration: Integration) -> Offers:
    return offers_of(integration.vendor, integration.capability_overrides)


def _patients(bundle: Bundle) -> list[Mapping[str, Any]]:
    return [row for row in bundle.matches if row.get("resourceType") == Resource.PATIENT.fhir]


def _id_of(resource: Mapping[str, Any]) -> str:
    value = resource.get("id")
    return value if isinstance(value, str) else ""
