"""Settings of diagnostics."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.runtime.settings import ServiceSettings


class DiagnosticsSettings(ServiceSettings):
    """Prefix `PS_DIAGNOSTICS_`."""

    model_config = SettingsConfigDict(env_prefix="PS_DIAGNOSTICS_", env_ignore_empty=True, extra="ignore", frozen=True)

    exchange_retention_days: int = Field(default=7, ge=1, le=366, description="how long the exchange history is kept")
    prune_every_s: float = Field(default=600.0, gt=0, description="how often older exchanges are deleted")
