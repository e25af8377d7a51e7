"""An integration's field mappings: the one in force, saved after its checks, tried on a sample, compared live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from common.models.clock import Clock
from common.models.errors import FieldError, SuiteError
from common.models.integration import ChannelKind, Integration
from common.runtime.authentication import Caller
from sync.core.fhir_mapping import Mapped
from sync.core.mapping.checking import check_mapping
from sync.core.mapping.compiling import compile_mapping
from sync.core.mapping.mapper import Mapper, default_rows, mapped_by, surroundings_of, with_rows
from sync.core.mapping.row import FieldMapping, MappingFinding
from sync.core.mapping.saved import SavedVersion, mapping_subject, rows_json, rows_of
from sync.core.mapping.transform import Surroundings
from sync.core.mapping.trying import changed_targets, try_rows
from sync.core.rejection import Rejection
from sync.core.run import Resource
from sync.ports import MappingBook, RecordReader
from sync.use_cases.fetch_page import FetchPage
from sync.use_cases.load_mapper import LoadMapper

EXAMPLES_MAX: Final = 5
ERRORS_SHOWN_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class EditMapping:
    """See the module's text."""

    book: MappingBook
    load_mapper: LoadMapper
    fetch_page: FetchPage
    records: RecordReader
    clock: Clock

    async def current(
        self, tenant: str, integration_id: str, resource: Resource
    ) -> tuple[FieldMapping, SavedVersion | None]:
        """The mapping in force, and the version that says so (None: the default)."""
        saved = await self.book.get(tenant, integration_id, mapping_subject(resource))
        return self.of_version(resource, saved), saved

    def of_version(self, resource: Resource, saved: SavedVersion | None) -> FieldMapping:
        """The mapping of a version; None is the default."""
        return default_rows(resource) if saved is None else with_rows(resource, rows_of(saved.content))

    async def version(self, tenant: str, integration_id: str, resource: Resource, version: int) -> SavedVersion | None:
        """Version 0 is the default (None). Raises SuiteError `mapping.version-not-found`."""
        if version == 0:
            return None
        found = await self.book.get(tenant, integration_id, mapping_subject(resource), version)
        if found is None:
            raise SuiteError("mapping.version-not-found")
        return found

    async def check(self, tenant: str, integration_id: str, mapping: FieldMapping) -> tuple[MappingFinding, ...]:
        """The warnings; raises SuiteError `mapping.refused` naming the rows and columns of errors."""
        findings = check_mapping(mapping, await self._surroundings(tenant, integration_id))
        refuse([finding for finding in findings if finding.is_error], "mapping.refused")
        return findings

    async def save(
        self,
        caller: Caller,
        integration_id: str,
        mapping: FieldMapping,
        *,
        after: int,
        note: str,
        restored_from: int | None = None,
    ) -> tuple[SavedVersion, tuple[MappingFinding, ...]]:
        """The new version and its warnings; raises as `check`, and `request.version-changed`."""
        warnings = await self.check(caller.tenant, integration_id, mapping)
        subject = mapping_subject(mapping.record_type)
        content = rows_json(mapping)
        saved = await self.book.save(caller, integration_id, subject, after, content, note, restored_from)
        return saved, warnings

    async def test(
        self, tenant: str, integration_id: str, mapping: FieldMapping, source: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the mapping makes of a resource: the record or why it is none, and every row."""
        warnings = await self.check(tenant, integration_id, mapping)
        compiled = compile_mapping(mapping, await self._surroundings(tenant, integration_id))
        result = mapped_by(compiled, source, mapping.source_type)
        return {
            "record": result.record.document() if isinstance(result, Mapped) else None,
            "rejected": _rejection_json(result) if isinstance(result, Rejection) else None,
            "rows": try_rows(mapping, compiled, source),
            "warnings": [finding_json(finding) for finding in warnings],
        }

    async def dry_run(self, caller: Caller, integration: Integration, mapping: FieldMapping) -> dict[str, Any]:
        """What a mapping would make differently of one page that is fetched now; nothing is stored.

        Raises SuiteError `mapping.refused`, `channel.not-found`, `peer.*` or `credential.*`.
        """
        warnings = await self.check(caller.tenant, integration.id, mapping)
        channel = integration.channel_of(ChannelKind.FHIR)
        if channel is None:
            raise SuiteError("channel.not-found", "The integration has no channel of the kind fhir.")
        today = self.clock.now().astimezone(ZoneInfo(channel.time_zone)).date()
        resources = await self.fetch_page.sample(integration, channel, Resource(mapping.record_type), today)
        before = await self.load_mapper(caller.tenant, integration.id)
        compiled = compile_mapping(mapping, await self._surroundings(caller.tenant, integration.id))
        after = Mapper({mapping.source_type: compiled})
        found = _Difference()
        for resource in resources:
            found.add(before(resource, mapping.source_type), after(resource, mapping.source_type))
        # The mapper is the runs', too: a dry run counts no unmapped values.
        before.take_unmapped()
        return {**await self._difference_json(caller, integration.id, mapping.record_type, found), "warnings": [
            finding_json(finding) for finding in warnings
        ]}  # fmt: skip

    async def _difference_json(
        self, caller: Caller, integration_id: str, record_type: str, found: _Difference
    ) -> dict[str, Any]:
        shown = {one for examples in found.examples.values() for one in examples}
        records: dict[str, str] = {}
        for external_id in sorted(shown):
            wanted = {"integration_id": integration_id, "record_type": record_type, "external_id": external_id}
            page = await self.records.cross_references(caller, wanted, None, 1)
            for row in page.items:
                records[external_id] = row["record_id"]
        targets = [
            {
                "target": target,
                "changed": count,
                "examples": [records[one] for one in found.examples[target] if one in records],
            }
            for target, count in sorted(found.targets.items())
        ]
        return {
            "resources": found.resources,
            "changed": found.changed,
            "newly_rejected": found.newly_rejected,
            "newly_taken": found.newly_taken,
            "rejections": [{"rule": rule, "count": count} for rule, count in found.rules.most_common()],
            "targets": targets,
        }

    async def _surroundings(self, tenant: str, integration_id: str) -> Surroundings:
        versions = await self.book.current_versions(tenant, integration_id)
        return surroundings_of(await self.load_mapper.contents(tenant, integration_id, versions))[0]


class _Difference:
    """What two mappings made of the same resources: counts by target, a few external ids as examples."""

    def __init__(self) -> None:
        self.resources = self.changed = self.newly_rejected = self.newly_taken = 0
        self.targets: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, before: Mapped | Rejection, after: Mapped | Rejection) -> None:
        self.resources += 1
        if isinstance(after, Rejection):
            self.rules[after.rule] += 1
            self.newly_rejected += isinstance(before, Mapped)
            return
        if isinstance(before, Rejection):
            self.newly_taken += 1
            return
        targets = changed_targets(before.record.document(), after.record.document())
        self.changed += bool(targets)
        for target in targets:
            self.targets[target] += 1
            examples = self.examples.setdefault(target, [])
            if len(examples) < EXAMPLES_MAX:
                examples.append(after.external_id)


def refuse(errors: Sequence[MappingFinding], code: str) -> None:
    """Raises SuiteError when there are errors, naming each one's row and column."""
    if not errors:
        return
    fields = [
        FieldError(
            f"/rows/{error.row - 1}/{error.column}" if error.row else f"/{error.column}",
            error.code,
            f"row {error.row}, {error.column}: {error.message}" if error.row else error.message,
        )
        for error in errors[:ERRORS_SHOWN_MAX]
    ]
    raise SuiteError(code, f"{len(errors)} found; the first: {fields[0].detail}.", fields=fields)


def finding_json(finding: MappingFinding) -> dict[str, Any]:
    """A finding as the API shows it."""
    return {"row": finding.row, "column": finding.column, "code": finding.code, "message": finding.message}


def _rejection_json(rejection: Rejection) -> dict[str, Any]:
    return {"code": rejection.code, "rule": rejection.rule, "value_class": rejection.value_class}
