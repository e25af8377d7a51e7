"""Databases of both kinds, each test with its own file or schema."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from common.runtime.database import Database

NewDatabase = Callable[..., Database]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Makes databases (not yet open) that are one and the same place: several are several replicas."""
    postgresql = request.param == "postgresql"
    url = request.getfixturevalue("postgres_url") if postgresql else f"sqlite:///{tmp_path}"
    module = f"test-{secrets.token_hex(6)}"

    def new(metadata: MetaData | None = None, migrations: Path | None = None, **settings: int) -> Database:
        return Database(url, module, metadata or MetaData(), migrations, **settings)

    return new


@pytest.fixture
async def database(new_database: NewDatabase) -> AsyncIterator[Database]:
    """An open database with the chassis' tables only."""
    database = new_database()
    await database.open()
    yield database
    await database.close()
