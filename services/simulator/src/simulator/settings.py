"""Settings of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from common.runtime.settings import ServiceSettings


class SimulatorSettings(ServiceSettings):
    """Prefix `PS_SIMULATOR_`."""

    model_config = SettingsConfigDict(env_prefix="PS_SIMULATOR_", env_ignore_empty=True, extra="ignore", frozen=True)

    practices: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("demo",),
        min_length=1,
        max_length=50,
        description="names of the simulated practices, separated by commas; part of their URLs",
    )
    seed: int = Field(default=20240101, ge=0, description="the same seed makes the same practices")
    patients: int = Field(default=200, ge=1, le=100_000, description="synthetic patients per practice")
    twins_percent: int = Field(default=1, ge=0, le=10, description="patients of a hundred that are another's twin")
    moved_percent: int = Field(default=1, ge=0, le=10, description="patients of a hundred that have a former address")
    duplicates_percent: int = Field(default=1, ge=0, le=10, description="patients of a hundred registered twice")
    merged_percent: int = Field(
        default=0,
        ge=0,
        le=10,
        description="patient records of a hundred that ended in another one: no visits of theirs",
    )
    public_url: str = Field(
        default="", description="base URL in links and token audiences; empty: the address that a request came to"
    )
    token_life_s: int = Field(default=300, ge=1, le=86_400, description="life of an access token in seconds")
    receiver_host: str = Field(default="127.0.0.1", description="address the simulated MLLP receiver listens on")
    receiver_port: int | None = Field(
        default=None, ge=0, le=65535, description="port of the simulated MLLP receiver (0: any free one; empty: none)"
    )
    proxy_host: str = Field(default="127.0.0.1", description="address the proxies with toxics listen on")
    authority_file: Path | None = Field(
        default=None, description="root certificate and key of the proxies' TLS, made when absent; empty: in memory"
    )
    drop_folder: Path | None = Field(
        default=None, description="folder that files of a simulated day are dropped into; empty: none are"
    )
    export_takes_s: float = Field(default=2.0, gt=0, le=86_400, description="how long a Group export takes")

    @field_validator("practices", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("practices")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not (name.isascii() and name.replace("-", "").isalnum() and name == name.lower() and len(name) <= 40):
                raise ValueError("expected names of lower-case letters, digits and hyphens")
        return value
