"""Settings of sync."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.runtime.settings import ServiceSettings


class SyncSettings(ServiceSettings):
    """Prefix `PS_SYNC_`."""

    model_config = SettingsConfigDict(env_prefix="PS_SYNC_", env_ignore_empty=True, extra="ignore", frozen=True)

    runs_at_once_max: int = Field(default=4, ge=1, le=64, description="runs that one replica works on at once")
    page_records_max: int = Field(
        default=100, ge=1, le=1000, description="records asked for per page; the vendor's own limit goes before it"
    )
    request_timeout_s: float = Field(default=15.0, gt=0, le=120, description="how long one request to a PMS may take")
    retry_wait_s_max: float = Field(
        default=10.0, ge=0, le=600, description="longest wait for a PMS that asks for patience, before the run fails"
    )
    run_lease_s: float = Field(
        default=6.0, ge=1, le=60, description="after so long without a sign of life another replica takes over a run"
    )
    poll_every_s: float = Field(
        default=0.5, gt=0, le=5, description="how often queued runs, schedules, cancellations and pauses are looked for"
    )
