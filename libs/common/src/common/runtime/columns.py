"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from common.models.clock import instant_text, parse_instant

_MILLISECOND_US = 1_000

Sequence = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit number that the database counts up (SQLite does so only for a column of the type INTEGER)."""


class UtcInstant(TypeDecorator[datetime]):
    """An aware datetime in UTC with milliseconds: timestamptz on PostgreSQL, RFC 3339 text on SQLite.

    Finer parts are cut off when written or compared, so that an instant that went through a cursor or an API finds
    the row it came from. A naive datetime raises ValueError.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        if dialect.name == "sqlite":
            return instant_text(value)
        instant = value.astimezone(UTC)
        return instant.replace(microsecond=instant.microsecond // _MILLISECOND_US * _MILLISECOND_US)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return parse_instant(value) if isinstance(value, str) else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """A JSON value as text; not for searching inside. None is SQL NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value, default=_plain).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


def _plain(value: object) -> object:
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    raise TypeError(type(value).__name__)
