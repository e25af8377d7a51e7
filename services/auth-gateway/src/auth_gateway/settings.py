"""Settings of auth-gateway."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from common.models.integration import Vendor
from common.runtime.settings import ServiceSettings


class AuthGatewaySettings(ServiceSettings):
    """Prefix `PS_AUTH_`."""

    model_config = SettingsConfigDict(env_prefix="PS_AUTH_", env_ignore_empty=True, extra="ignore", frozen=True)

    token_timeout_s: float = Field(
        default=10.0, gt=0, le=60, description="how long a PMS's token endpoint may take to answer"
    )
    refresh_at_share: float = Field(
        default=0.8, gt=0, lt=1, description="share of a token's life after which a new one is asked for"
    )
    refresh_margins_s: dict[Vendor, Annotated[int, Field(ge=5, le=86_400)]] = Field(
        default_factory=dict,
        description="vendor → seconds before a token's end when a new one is asked for; a credential's own go before",
    )
    token_lives_s_max: dict[Vendor, Annotated[int, Field(ge=30, le=86_400)]] = Field(
        default_factory=dict, description="vendor → seconds that a token is used at most; a credential's own go before"
    )
    service_token_life_s: int = Field(
        default=300, ge=30, le=3600, description="life of the tokens that services act with"
    )
    watch_every_s: float = Field(
        default=1.0, gt=0, le=60, description="how often it is looked which credentials are due for their test"
    )
    egress_addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="addresses that vendors see us connect from, separated by commas; for network sheets"
    )
    test_timeout_s: float = Field(
        default=10.0, gt=0, le=10, description="how long Test Connection may take in all; its stages get shares of it"
    )
    expiry_every_s: float = Field(
        default=60.0, gt=0, le=86_400, description="how often it is looked which ends of secrets are to be announced"
    )

    offboarding_every_s: float = Field(
        default=5.0, gt=0, le=3600, description="how often it is looked which offboardings can go on"
    )
    offboarding_services: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("auth-gateway", "sync", "hl7-gateway", "diagnostics", "alerts"),
        description="services that hold rows of practices, separated by commas; each exports and deletes them",
    )
    export_kept_days: int = Field(
        default=30, ge=1, le=365, description="how long the export of an offboarded practice can be downloaded"
    )

    @field_validator("egress_addresses", "offboarding_services", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
