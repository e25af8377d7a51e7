"""Tables of site profiles."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text
from sqlmodel import Field

from common.runtime.columns import JsonText, UtcInstant
from hl7_gateway.adapters.tables import Base


class ProfileRow(Base, table=True):
    """One profile by its name. A removed one keeps its row: made again, its versions go on where they stopped."""

    __tablename__ = "profile"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: int
    text: str = Field(sa_column=Column(Text, nullable=False))
    document: Any = Field(sa_column=Column(JsonText, nullable=False))
    author: str
    reason: str
    created_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
    removed_at: datetime | None = Field(sa_column=Column(UtcInstant, nullable=True))


class ProfileVersionRow(Base, table=True):
    """What a profile was, from `changed_at` on."""

    __tablename__ = "profile_version"

    tenant: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    document: Any = Field(sa_column=Column(JsonText, nullable=False))
    author: str
    reason: str
    changed_at: datetime = Field(sa_column=Column(UtcInstant, nullable=False))
