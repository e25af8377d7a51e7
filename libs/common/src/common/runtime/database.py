"""The database of one module: SQLite (one file) or PostgreSQL (one schema), behind the same two verbs, read and write.

SQLite has one writer, guarded by a lock, that begins IMMEDIATE, so that no transaction fails half way because another
one wrote; readers are apart and see a snapshot (WAL). PostgreSQL has one pool, READ COMMITTED; whoever needs more
takes row locks. "Gone" is one error for both, `database.unavailable`, and nothing has to be restarted afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import asyncpg
from sqlalchemy import URL, MetaData, Table, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from common.models.errors import SuiteError
from common.runtime.schema import schema_differences, upgrade

__all__ = ["Database", "database_of", "schema_differences"]

BUSY_TIMEOUT_MS: Final = 5_000
CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0
POOL_TIMEOUT_S: Final = 10.0
PING_TIMEOUT_S: Final = 2.0
_FILE_MODE: Final = 0o600
_SQLITE_PREFIX: Final = "sqlite:///"
_DATABASE: Final = "practice_studio.database"
_AFTER_COMMIT: Final = "practice_studio.after_commit"

# Primary result codes (https://www.sqlite.org/rescode.html) that say "not now" or "the file is gone", not "your SQL".
_SQLITE_GONE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
    }
)
# SQLSTATE classes (PostgreSQL documentation, appendix A): connection, transaction rollback (deadlock), resources,
# operator intervention (shutdown), system error; and 55P03, a lock that was not to be had.
_POSTGRES_GONE: Final = ("08", "40", "53", "57", "58", "55P03")

_log = logging.getLogger("common.database")
T = TypeVar("T")


class Database:
    """See the module's text. `url` is `sqlite:///<directory>` or `postgresql+asyncpg://…`."""

    def __init__(
        self, url: str, module: str, metadata: MetaData, migrations: Path | None, *, pool_connections_max: int = 5
    ) -> None:
        self.module = module
        self.metadata = metadata
        self.outbox_added = asyncio.Event()
        """Set after a commit that added outbox rows; the relay of this process waits for it."""
        self._migrations = migrations
        self._connections_max = pool_connections_max
        self._write_lock = asyncio.Lock()
        self._writing_task: asyncio.Task[Any] | None = None
        self._writer: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None
        if url.startswith(_SQLITE_PREFIX):
            self.dialect: Literal["sqlite", "postgresql"] = "sqlite"
            self.path = Path(url.removeprefix(_SQLITE_PREFIX)) / f"{module}.sqlite3"
            self._url = URL.create("sqlite+aiosqlite", database=str(self.path))
            return
        self._url = make_url(url)
        if self._url.drivername != "postgresql+asyncpg":
            raise SuiteError("start.bad-setting", "The database URL begins with sqlite:/// or postgresql+asyncpg://")
        self.dialect = "postgresql"
        self.schema = module.replace("-", "_")

    async def open(self) -> None:
        """Connect and migrate; raises SuiteError `database.unavailable` or `database.migration-failed`."""
        with _gone_is_unavailable():
            try:
                # To its end also when the start is given up: a connection that is being made would be left open.
                await _to_its_end(self._open_sqlite() if self.dialect == "sqlite" else self._open_postgresql())
            except asyncio.CancelledError:
                await self.close()
                raise

    async def close(self) -> None:
        """Close every connection."""
        engines = {engine for engine in (self._writer, self._reader) if engine is not None}
        self._writer = self._reader = None
        for engine in engines:
            await engine.dispose()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end of the block, rolled back when it raises.

        Raises SuiteError `database.unavailable`: then nothing was stored, or (only when the database went away
        during the commit) it is not known.
        """
        after: list[Callable[[], None]] = []
        with _gone_is_unavailable():
            kind = _UncancelledSession if self.dialect == "sqlite" else AsyncSession
            async with self._one_writer(), kind(_opened(self._writer), expire_on_commit=False) as session:
                session.info[_DATABASE] = self
                session.info[_AFTER_COMMIT] = after
                await session.connection()
                yield session
                await _to_its_end(session.commit())
        for callback in after:
            callback()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for reading only; on SQLite a snapshot, on PostgreSQL a READ ONLY transaction."""
        with _gone_is_unavailable():
            async with AsyncSession(_opened(self._reader), expire_on_commit=False) as session:
                session.info[_DATABASE] = self
                yield session

    @asynccontextmanager
    async def driver_connection(self) -> AsyncIterator[Any]:
        """PostgreSQL: the driver's own connection (asyncpg) out of the pool; a statement is a transaction of its own.

        For the few statements whose speed is a feature. Raises SuiteError `database.unavailable`.
        """
        with _gone_is_unavailable():
            async with _opened(self._writer).connect() as connection:
                yield (await connection.get_raw_connection()).driver_connection

    async def empty_log(self) -> None:
        """SQLite: what was overwritten leaves the write-ahead log, too, unless a reader holds that up. PostgreSQL: that
        is its archive's business."""
        if self.dialect == "sqlite":
            async with self._sqlite_writer(), self.driver_connection() as connection:
                cursor = await connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                await cursor.close()

    def after_commit(self, session: AsyncSession, callback: Callable[[], None]) -> None:
        """Call it once the transaction of this session (of `write()`) has committed; never when it rolls back."""
        session.info[_AFTER_COMMIT].append(callback)

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT of this dialect, which knows ON CONFLICT."""
        return sqlite.insert(table) if self.dialect == "sqlite" else postgresql.insert(table)

    async def ping(self) -> None:
        """One small read; raises SuiteError `database.unavailable`, at the latest after 2 s."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S), self.read() as session:
                # On SQLite a plain SELECT 1 would not look at the file.
                await session.execute(text("PRAGMA schema_version" if self.dialect == "sqlite" else "SELECT 1"))
        except TimeoutError as error:
            raise SuiteError("database.unavailable") from error

    def _one_writer(self) -> AbstractAsyncContextManager[None]:
        return self._sqlite_writer() if self.dialect == "sqlite" else nullcontext()

    @asynccontextmanager
    async def _sqlite_writer(self) -> AsyncIterator[None]:
        if self._writing_task is not None and self._writing_task is asyncio.current_task():
            raise RuntimeError("write() inside write(): pass the session on")
        async with self._write_lock:
            self._writing_task = asyncio.current_task()
            try:
                yield
            finally:
                self._writing_task = None

    async def _open_sqlite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Only when it is new: closing any descriptor of the file would drop the locks that this process holds on it
        # (POSIX, fcntl), and another process would then take the live WAL for an abandoned one.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
        migrating = _sqlite_engine(self._url, "BEGIN IMMEDIATE", ("foreign_keys=OFF",), poolclass=NullPool)
        await self._migrate(migrating)
        self._writer = _sqlite_engine(self._url, "BEGIN IMMEDIATE", ("foreign_keys=ON",), pool_size=1, max_overflow=0)
        self._reader = _sqlite_engine(
            self._url, "BEGIN", ("query_only=ON",), pool_size=self._connections_max, max_overflow=0
        )

    async def _open_postgresql(self) -> None:
        # The schema must be there before the engine connects: it asks once for the default schema's name.
        outside = create_async_engine(self._url, poolclass=NullPool, connect_args=_asyncpg_arguments(None, None))
        try:
            async with outside.connect() as connection:
                name = f"practice-studio:migrations:{self.schema}"
                await connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
                quoted = connection.dialect.identifier_preparer.quote(self.schema)
                await connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted}"))
                await connection.commit()
                migrating = create_async_engine(
                    self._url,
                    poolclass=NullPool,
                    hide_parameters=True,
                    connect_args=_asyncpg_arguments(self.schema, None),
                )
                await self._migrate(migrating)
        finally:
            await outside.dispose()  # closing the connection releases the lock
        self._writer = create_async_engine(
            self._url,
            pool_size=self._connections_max,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=_asyncpg_arguments(self.schema, STATEMENT_TIMEOUT_S),
        )
        self._reader = self._writer.execution_options(postgresql_readonly=True)

    async def _migrate(self, engine: AsyncEngine) -> None:
        try:
            async with engine.connect() as connection:
                if self.dialect == "sqlite":
                    # One transaction for both chains: the lock on the file is held from the first look to the end.
                    await connection.begin()
                    await connection.run_sync(upgrade, self._migrations)
                    await _check_foreign_keys(connection)
                    await connection.commit()
                else:
                    await connection.run_sync(upgrade, self._migrations)
        except Exception as error:
            if is_gone(error):
                raise
            _log.getChild(self.module).exception("migration failed", extra={"error_type": type(error).__name__})
            raise SuiteError("database.migration-failed", f"{self.module}: {type(error).__name__}") from error
        finally:
            await engine.dispose()


class _UncancelledSession(AsyncSession):
    """A session of the SQLite writer: a statement that has begun is awaited to its end also when we are cancelled.

    The driver's thread goes on with a statement whose caller was cancelled. SQLAlchemy then throws the connection away
    while it is still in its transaction, and the file stays locked until it is collected.
    """

    async def connection(self, *arguments: Any, **options: Any) -> AsyncConnection:
        """See AsyncSession."""
        return await _to_its_end(super().connection(*arguments, **options))

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """See AsyncSession."""
        return await _to_its_end(super().execute(*arguments, **options))

    async def scalar(self, *arguments: Any, **options: Any) -> Any:
        """See AsyncSession."""
        return await _to_its_end(super().scalar(*arguments, **options))

    async def scalars(self, *arguments: Any, **options: Any) -> Any:
        """See AsyncSession."""
        return await _to_its_end(super().scalars(*arguments, **options))

    async def close(self) -> None:
        """See AsyncSession."""
        await _to_its_end(super().close())


def database_of(session: AsyncSession) -> Database:
    """The database a session of `write()` or `read()` belongs to."""
    database: Database = session.info[_DATABASE]
    return database


def is_gone(error: BaseException) -> bool:
    """Whether a driver's error means that the database is away, busy or shutting down: the work can be repeated."""
    if isinstance(error, (OSError, PoolTimeoutError)):
        return True
    if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        return isinstance(error, asyncpg.InterfaceError) or str(error.sqlstate).startswith(_POSTGRES_GONE)
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", None)  # the connection was closed: no code
        return error.connection_invalidated or (code is not None and code & 0xFF in _SQLITE_GONE)
    if isinstance(error.orig, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError):
        return True  # another replica has migrated; the statement is prepared anew
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is not None and not error.connection_invalidated:
        return str(sqlstate).startswith(_POSTGRES_GONE)
    return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))


@contextmanager
def _gone_is_unavailable() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_gone(error):
            raise SuiteError("database.unavailable") from error
        raise


def _opened(engine: AsyncEngine | None) -> AsyncEngine:
    if engine is None:
        raise SuiteError("database.unavailable", "The database is not open.")
    return engine


async def _to_its_end(work: Awaitable[T]) -> T:
    """Await it to its end also when we are cancelled meanwhile, so that a commit is never of unknown outcome."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


def _sqlite_engine(url: URL, begin: str, pragmas: tuple[str, ...], **pool: Any) -> AsyncEngine:
    engine = create_async_engine(
        url, hide_parameters=True, connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000}, **pool
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


async def _check_foreign_keys(connection: Any) -> None:
    """Foreign keys are off during migrations (a table made anew would cascade), so they are checked at the end."""
    broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).first()
    if broken is not None:
        raise RuntimeError("a migration left a broken foreign key")


def _asyncpg_arguments(schema: str | None, statement_timeout_s: float | None) -> dict[str, Any]:
    # jit: our statements are small, compiling them costs more than it gives.
    settings = {"application_name": "practice-studio", "jit": "off"}
    if schema is not None:
        settings["search_path"] = f'"{schema}"'
    return {"timeout": CONNECT_TIMEOUT_S, "command_timeout": statement_timeout_s, "server_settings": settings}
