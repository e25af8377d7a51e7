"""Migrations by Alembic, run by the program itself: the chassis' chain first, then the service's.

Forward only, and expand before contract: code of version N-1 runs on the schema of version N. A database that is
newer than this code is therefore left alone, not refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData

from common.runtime import tables

CHASSIS_MIGRATIONS: Final = Path(__file__).parent / "migrations"
CHASSIS_VERSION_TABLE: Final = "chassis_version"
SERVICE_VERSION_TABLE: Final = "alembic_version"

_CHASSIS_TABLES: Final = frozenset(tables.Base.metadata.tables)


def upgrade(connection: Connection, migrations: Path | None) -> None:
    """Bring chassis and service tables to this code's version; raises what the failing statement raised."""
    _upgrade_chain(connection, CHASSIS_MIGRATIONS, CHASSIS_VERSION_TABLE)
    if migrations is not None:
        _upgrade_chain(connection, migrations, SERVICE_VERSION_TABLE)


def _upgrade_chain(connection: Connection, directory: Path, version_table: str) -> None:
    scripts = ScriptDirectory(str(directory))

    def steps(present: Any, _: MigrationContext) -> Sequence[Any]:
        known = {script.revision for script in scripts.walk_revisions()}
        if not set(present) <= known:
            return []  # newer code was here; its schema serves us too
        return list(scripts._upgrade_revs("head", present))

    context = MigrationContext.configure(
        connection,
        # SQLite's DDL is transactional as well once the driver leaves BEGIN to us.
        opts={"fn": steps, "version_table": version_table, "transactional_ddl": True, "script": scripts},
    )
    with context.begin_transaction(), Operations.context(context):
        context.run_migrations()


def schema_differences(connection: Connection, metadata: MetaData) -> list[Any]:
    """What a migrated database still lacks against the metadata, in Alembic's form; empty when they agree.

    `await connection.run_sync(schema_differences, Base.metadata)`. Chassis tables count only for their own metadata.
    """

    def include(_: object, name: str | None, kind: str, reflected: bool, counterpart: object) -> bool:
        foreign = name not in metadata.tables and (name in _CHASSIS_TABLES or name == CHASSIS_VERSION_TABLE)
        own_chain_only = metadata is tables.Base.metadata and reflected and counterpart is None
        return not (kind == "table" and (foreign or own_chain_only))

    context = MigrationContext.configure(connection, opts={"include_object": include, "compare_type": True})
    return list(compare_metadata(context, metadata))
