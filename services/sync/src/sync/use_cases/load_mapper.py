"""The mapper of an integration, compiled anew only when one of its mappings or value maps has a new version."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.models.errors import SuiteError
from sync.core.mapping.compiling import RowMistake
from sync.core.mapping.mapper import Mapper, mapper_of
from sync.ports import MappingBook

MAPPERS_KEPT_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class LoadMapper:
    """See the module's text. A run in hand goes on with a new version from its next page."""

    book: MappingBook
    _kept: OrderedDict[tuple[str, str], tuple[Mapping[str, int], Mapper]] = field(default_factory=OrderedDict)

    async def __call__(self, tenant: str, integration_id: str) -> Mapper:
        """Raises SuiteError `mapping.refused` when what is saved cannot be compiled any more."""
        versions = await self.book.current_versions(tenant, integration_id)
        key = (tenant, integration_id)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == versions:
            self._kept.move_to_end(key)
            return kept[1]
        mapper = _compiled(await self.contents(tenant, integration_id, versions))
        self._kept[key] = (versions, mapper)
        if len(self._kept) > MAPPERS_KEPT_MAX:
            self._kept.popitem(last=False)
        return mapper

    async def contents(self, tenant: str, integration_id: str, versions: Mapping[str, int]) -> dict[str, Any]:
        """What is saved of those versions, by subject."""
        found = {
            subject: await self.book.get(tenant, integration_id, subject, version)
            for subject, version in versions.items()
        }
        return {subject: saved.content for subject, saved in found.items() if saved is not None}


def _compiled(contents: Mapping[str, Any]) -> Mapper:
    try:
        return mapper_of(contents)
    except RowMistake as mistake:
        raise SuiteError("mapping.refused", mistake.message) from mistake
