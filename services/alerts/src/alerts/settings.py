"""Settings of alerts."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.runtime.settings import ServiceSettings


class AlertsSettings(ServiceSettings):
    """Prefix `PS_ALERTS_`."""

    model_config = SettingsConfigDict(env_prefix="PS_ALERTS_", env_ignore_empty=True, extra="ignore", frozen=True)

    webhook_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="how long a webhook's receiver may take to answer"
    )
    webhook_attempts_max: int = Field(default=8, ge=1, le=30, description="attempts before a delivery is given up")
    webhook_backoff_s: float = Field(
        default=1.0, gt=0, description="pause after the first failed attempt; doubled each time, to 5 min at most"
    )
    tick_every_s: float = Field(default=1.0, gt=0, le=60, description="how often alerts that went quiet are looked at")
    watchdog_every_s: float = Field(
        default=60.0, gt=0, description="how often ps.alert.watchdog says that alerting is alive"
    )
