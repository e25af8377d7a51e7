"""The end of a practice: what has to have happened before what.

    (none) --begin--> exporting --all files whole--> exported --destroy--> destroying --all acknowledged--> offboarded

Nothing is destroyed before the export is whole. With `destroy` the practice's data keys are gone, so that nothing that
was sealed opens any more, wherever a copy of it lies; what follows only takes away what nobody can read. Every step can
be done twice, so that whoever finds an offboarding half-way goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from common.models.clock import instant_text
from common.models.errors import SuiteError

SWEPT_AFTER: Final = timedelta(hours=1)
"""What was on its way when a practice ended (events of the bus, a run's last page) is written by then; it is deleted in
a second round."""
RUNS_GOING: Final = ("queued", "running")
"""A paused one does nothing: the practice is suspended by then."""


class Phase(StrEnum):
    """How far an offboarding is."""

    EXPORTING = "exporting"
    EXPORTED = "exported"
    DESTROYING = "destroying"
    OFFBOARDED = "offboarded"


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export: `service/part.ndjson`. `chunks` pages are stored; `cursor` says where the next begins,
    None at the end; `sha256` of all its bytes once it is whole."""

    name: str
    rows: int = 0
    size_bytes: int = 0
    chunks: int = 0
    cursor: str | None = ""
    sha256: str | None = None
    downloaded_at: datetime | None = None

    @property
    def service(self) -> str:
        """Whose rows it holds."""
        return self.name.split("/", 1)[0]

    @property
    def part(self) -> str:
        """The service's name for them."""
        return self.name.split("/", 1)[1].removesuffix(".ndjson")


@dataclass(frozen=True, slots=True)
class Offboarding:
    """One practice's end."""

    id: str
    tenant: str
    name: str
    phase: Phase
    reason: str
    requested_by: str
    started_at: datetime
    services: Sequence[str]
    exported_at: datetime | None = None
    destroyed_at: datetime | None = None
    ended_at: datetime | None = None
    kept_until: datetime | None = None
    swept_at: datetime | None = None
    manifest_sha256: str | None = None
    export_deleted: bool = False
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """Rows deleted, by service."""

    @property
    def missing(self) -> list[str]:
        """Services that have not said yet that they hold nothing any more."""
        return [name for name in self.services if name not in self.acknowledged]


def file_name(service: str, part: str) -> str:
    """A file's name in the export."""
    return f"{service}/{part}.ndjson"


def manifest(offboarding: Offboarding, files: Sequence[ExportFile], made_at: datetime) -> dict[str, Any]:
    """What belongs to an export, with the SHA-256 of each file."""
    return {
        "offboarding_id": offboarding.id,
        "tenant": offboarding.tenant,
        "name": offboarding.name,
        "made_at": instant_text(made_at),
        "files": [
            {"name": file.name, "rows": file.rows, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in sorted(files, key=lambda file: file.name)
        ],
    }


def not_downloaded(files: Sequence[ExportFile]) -> list[str]:
    """Names of the files that nobody has fetched; those without rows need not be."""
    return sorted(file.name for file in files if file.downloaded_at is None and file.rows)


def since_export(files: Sequence[ExportFile], counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Rows that came after their file was made, by file. An audit log grows by the export itself and stays."""
    made = {file.name: file.rows for file in files}
    found = {file_name(service, part): count for service, parts in counts.items() for part, count in parts.items()}
    return {
        name: count - made.get(name, 0)
        for name, count in sorted(found.items())
        if count > made.get(name, 0) and not name.endswith("/audit.ndjson")
    }


def check_destroyable(
    offboarding: Offboarding, files: Sequence[ExportFile], runs: int, *, despite_runs: bool, without_download: bool
) -> None:
    """Raises SuiteError `tenant.export-not-ready`, `tenant.runs-going` or `tenant.export-not-downloaded`."""
    if offboarding.phase is Phase.EXPORTING:
        raise SuiteError("tenant.export-not-ready")
    check_runs(runs, despite_runs=despite_runs)
    left = not_downloaded(files)
    if left and not without_download:
        raise SuiteError("tenant.export-not-downloaded", f"Not downloaded: {', '.join(left)}.")


def check_runs(runs: int, *, despite_runs: bool) -> None:
    """Raises SuiteError `tenant.runs-going`."""
    if runs and not despite_runs:
        raise SuiteError("tenant.runs-going", f"{runs} runs are going on.")


def state_json(offboarding: Offboarding, files: Sequence[ExportFile]) -> dict[str, Any]:
    """How far it is, and what is missing."""

    def instant(at: datetime | None) -> str | None:
        return instant_text(at) if at else None

    return {
        "offboarding_id": offboarding.id,
        "tenant": offboarding.tenant,
        "name": offboarding.name,
        "phase": offboarding.phase.value,
        "reason": offboarding.reason,
        "started_at": instant_text(offboarding.started_at),
        "exported_at": instant(offboarding.exported_at),
        "keys_destroyed_at": instant(offboarding.destroyed_at),
        "ended_at": instant(offboarding.ended_at),
        "export": {
            "kept_until": instant(offboarding.kept_until),
            "deleted": offboarding.export_deleted,
            "manifest_sha256": offboarding.manifest_sha256,
            "files": [
                {
                    "name": file.name,
                    "rows": file.rows,
                    "size_bytes": file.size_bytes,
                    "sha256": file.sha256,
                    "whole": file.sha256 is not None,
                    "downloaded_at": instant(file.downloaded_at),
                }
                for file in files
            ],
            "not_downloaded": not_downloaded(files),
        },
        "deleted_rows": dict(sorted(offboarding.acknowledged.items())),
        "missing": offboarding.missing if offboarding.phase is Phase.DESTROYING else [],
    }
