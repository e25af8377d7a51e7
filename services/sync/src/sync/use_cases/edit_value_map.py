"""An integration's value maps: saved after their checks, and what the PMS sent that they do not name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.models.errors import SuiteError
from common.runtime.authentication import Caller
from sync.core.mapping.saved import Kind, SavedVersion, UnmappedValue, value_map_subject, value_rows_json, value_rows_of
from sync.core.mapping.value_map import ValueMapRow, value_map_of
from sync.core.mapping.value_map_csv import read_value_map, suggestions, write_value_map
from sync.ports import MappingBook
from sync.use_cases.edit_mapping import refuse

Suggested = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class EditValueMap:
    """See the module's text."""

    book: MappingBook

    async def rows(
        self, tenant: str, integration_id: str, kind: Kind
    ) -> tuple[SavedVersion | None, tuple[ValueMapRow, ...]]:
        """The version in force (None: none was saved) and its rows."""
        saved = await self.book.get(tenant, integration_id, value_map_subject(kind))
        return saved, value_rows_of(saved.content) if saved else ()

    async def version_in_force(self, tenant: str, integration_id: str, kind: Kind) -> int:
        """Its number; 0 when none was saved."""
        return (await self.book.current_versions(tenant, integration_id)).get(value_map_subject(kind), 0)

    async def version(self, tenant: str, integration_id: str, kind: Kind, version: int) -> SavedVersion | None:
        """None for version 0, which has no rows. Raises SuiteError `mapping.version-not-found`."""
        if version == 0:
            return None
        found = await self.book.get(tenant, integration_id, value_map_subject(kind), version)
        if found is None:
            raise SuiteError("mapping.version-not-found")
        return found

    def read_csv(self, text: str) -> tuple[ValueMapRow, ...]:
        """The rows of a file; raises SuiteError `value-map.refused` naming lines and columns."""
        rows, findings = read_value_map(text)
        refuse(findings, "value-map.refused")
        return rows

    async def save(
        self,
        caller: Caller,
        integration_id: str,
        kind: Kind,
        rows: Sequence[Mapping[str, Any]],
        *,
        after: int,
        note: str,
        restored_from: int | None = None,
    ) -> SavedVersion:
        """The new version; raises SuiteError `value-map.refused` or `request.version-changed`."""
        # A list of rows has to pass what a file has to pass; its first line is the header.
        checked, findings = read_value_map(write_value_map(value_rows_of(rows)))
        refuse([replace(finding, row=max(0, finding.row - 1)) for finding in findings], "value-map.refused")
        content = value_rows_json(checked)
        subject = value_map_subject(kind)
        return await self.book.save(caller, integration_id, subject, after, content, note, restored_from)

    async def unmapped(self, tenant: str, integration_id: str, kind: Kind) -> list[tuple[UnmappedValue, Suggested]]:
        """What is still without a row, most frequent first, each with target codes to choose from."""
        _, rows = await self.rows(tenant, integration_id, kind)
        known = value_map_of(rows)
        names = {(row.target_code, text) for row in rows for text in (row.display, row.target_code) if text}
        targets = sorted(names)
        return [
            (value, _suggested(value, targets))
            for value in await self.book.unmapped(tenant, integration_id, kind.value)
            if known.target(value.source_code, value.source_system) is None
        ]


def _suggested(value: UnmappedValue, targets: Sequence[tuple[str, str]]) -> Suggested:
    """Best first, each target once."""
    best: dict[str, float] = {}
    for code, score in suggestions(value.display or value.source_code, targets, limit=6):
        best[code] = max(score, best.get(code, 0.0))
    return sorted(best.items(), key=lambda item: -item[1])[:3]
