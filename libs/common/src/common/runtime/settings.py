"""Settings: typed, from the environment, each with a description; `docs/settings.md` is generated from them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from common.models.access import TENANT_ROLES
from common.models.errors import SuiteError

_FIELD_IN_ERROR: Final = re.compile(r'field "(\w+)"')
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a key pair (RFC 7518 §3.1, RFC 8037): with a shared secret the issuer's readers could sign as well."""


class ServiceSettings(BaseSettings):
    """Base of every settings class: a prefix, no files read, unknown names ignored, empty values as if unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)


class OidcIssuer(BaseModel):
    """An external OpenID issuer, pinned to one tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(description="exact `iss`")
    audience: str = Field(description="exact `aud`")
    tenant: str = Field(description="the tenant its tokens belong to")
    jwks_url: str = Field(default="", description="where its keys are published; empty: as its discovery document says")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="accepted algorithms"
    )
    roles_claim: str = Field(
        default="roles", description="claim that lists the roles; `a.b` is claim b inside the object a"
    )
    role_names: dict[str, str] = Field(default_factory=dict, description="the provider's name of a role → ours")

    @field_validator("role_names")
    @classmethod
    def _tenant_roles(cls, value: dict[str, str]) -> dict[str, str]:
        if not set(value.values()) <= TENANT_ROLES:
            raise ValueError(f"role_names may give {', '.join(sorted(TENANT_ROLES))}")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _jwks_url(cls, value: str) -> str:
        return _http_url(value) if value else value


_DATABASE_URL: Final = "expected postgresql+asyncpg://user:password@host/database, or nothing for SQLite"


def _http_url(value: str) -> str:
    """Itself when it is an http or https URL; raises ValueError without repeating it (it may hold a password)."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("expected a URL that begins with http:// or https://")
    return value


class RuntimeSettings(ServiceSettings):
    """What the chassis of every process reads."""

    model_config = SettingsConfigDict(env_prefix="PS_", env_ignore_empty=True, extra="ignore", frozen=True)

    data: Path = Field(
        default=Path("data"), description="directory of the embedded databases, the bus and the key file"
    )
    host: str = Field(default="127.0.0.1", description="address the HTTP server listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="port the HTTP server listens on (0: any free one)")
    public_url: str = Field(default="", description="base URL callers use; empty: http://HOST:PORT")
    database_url: str = Field(
        default="", description="postgresql+asyncpg://user:password@host/database; empty: SQLite files in PS_DATA"
    )
    database_connections_max: int = Field(default=5, ge=1, le=100, description="connections per service to PostgreSQL")
    bus_url: str = Field(default="", description="kafka://host:port[,host:port]; empty: the SQLite bus in PS_DATA")
    bus_replication_factor: int = Field(
        default=1, ge=1, le=10, description="replication factor of topics that are created"
    )
    peers: dict[str, str] = Field(
        default_factory=dict,
        description='JSON object service → base URL, e.g. {"auth-gateway": "http://auth-gateway:8080"}; '
        "services in the same process need none",
    )
    key_file: str = Field(
        default="",
        description="file with the key-encryption key (base64, 32 bytes); empty: "
        "PS_DATA/key-encryption-key, made at first start",
    )
    key: str = Field(
        default="", description="the key-encryption key itself (base64, 32 bytes); goes before the file", repr=False
    )
    other_keys: str = Field(
        default="",
        description="key-encryption keys that are read besides (base64, separated by commas): the next or the former "
        "one, while the key is replaced",
        repr=False,
    )
    other_key_files: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="files with such keys, separated by commas"
    )
    kms_url: str = Field(
        default="", description="OpenBao or Vault whose transit engine wraps the data keys; empty: the key does"
    )
    kms_mount: str = Field(default="transit", pattern="^[A-Za-z0-9_./-]+$", description="mount of the transit engine")
    kms_key: str = Field(
        default="practice-studio", pattern="^[A-Za-z0-9_.-]+$", description="name of the transit key (aes256-gcm96)"
    )
    kms_namespace: str = Field(default="", description="namespace of OpenBao or Vault; empty: none")
    kms_token_file: str = Field(default="", description="file with its token; read at each call, so that it can change")
    kms_timeout_s: float = Field(default=5.0, gt=0, le=60, description="how long it may take to answer")
    token_issuer: str = Field(default="", description="`iss` of the suite's own tokens; empty: PS_PUBLIC_URL + /auth")
    oidc_issuers: tuple[OidcIssuer, ...] = Field(
        default=(),
        description="JSON list of external OpenID issuers, each pinned to a tenant: `issuer`, `audience`, `tenant` "
        "and, where the usual does not fit, `jwks_url`, `algorithms`, `roles_claim`, `role_names`",
    )
    failed_authentications_max: int = Field(
        default=60,
        ge=1,
        le=100_000,
        description="failed authentications per minute, address and subject, after which tokens are not looked at",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins whose pages may call the API, separated by commas"
    )
    allowed_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("public", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
        description="networks the suite may connect to, separated by commas; `public` stands for "
        "every global address; loopback only when named; link-local and cloud metadata addresses never",
    )
    body_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024, description="largest HTTP request body in bytes")
    response_bytes_max: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="largest answer read from a peer in bytes"
    )
    telemetry_exporter: Literal["none", "console", "otlp"] = Field(
        default="none", description="where traces, metrics and logs go"
    )
    otlp_endpoint: str = Field(default="http://127.0.0.1:4318", description="OTLP/HTTP endpoint (without /v1/…)")
    log_level: Literal["ERROR", "WARN", "INFO", "DEBUG"] = Field(
        default="INFO", description="level of the log on standard error"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="form of the log on standard error")
    stop_timeout_s: float = Field(
        default=20.0, gt=0, description="how long a stop may take before work in hand is given up"
    )
    measurement_every_s: float = Field(
        default=10.0, gt=0, description="how often queue depths and resources are published"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment; no dotenv or secret files that would surprise."""
        return init_settings, env_settings

    @field_validator("cors_origins", "allowed_networks", "other_key_files", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            if network != "public":
                ipaddress.ip_network(network)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(_http_url(origin))
            if origin != f"{parts.scheme}://{parts.netloc}":  # a browser sends neither a path nor a slash at the end
                raise ValueError("expected origins such as https://app.example, without a path or a slash at the end")
        return value

    @field_validator("public_url", "otlp_endpoint", "kms_url")
    @classmethod
    def _url(cls, value: str) -> str:
        return _http_url(value) if value else value

    @field_validator("peers")
    @classmethod
    def _peer_urls(cls, value: dict[str, str]) -> dict[str, str]:
        return {service: _http_url(url) for service, url in value.items()}

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        try:
            url = make_url(value) if value else None
        except (ArgumentError, ValueError):  # the port is no number
            raise ValueError(_DATABASE_URL) from None
        if url is not None and (url.drivername != "postgresql+asyncpg" or not url.database):
            raise ValueError(_DATABASE_URL)
        return value

    @field_validator("bus_url")
    @classmethod
    def _bus(cls, value: str) -> str:
        if value and (not value.startswith("kafka://") or not urlsplit(value).netloc):
            raise ValueError("expected kafka://host:port, or nothing for the SQLite bus")
        return value

    @property
    def base_url(self) -> str:
        """The base URL that callers use, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def issuer(self) -> str:
        """`iss` of the suite's own tokens."""
        return self.token_issuer or f"{self.base_url}/auth"


S = TypeVar("S", bound=BaseSettings)
_MISSPELT_LIKENESS_MIN: Final = 0.87
"""Share of common characters (difflib's ratio) from which an unknown name is taken for a misspelt one."""


def load(settings: type[S], **overrides: Any) -> S:
    """The settings from the environment; raises SuiteError `start.bad-setting` naming setting and expectation.

    A variable whose name is almost a setting's stops the start too: ignored, it would leave the default in force. Other
    unknown names are let be: they are another service's, or another version's.
    """
    _refuse_misspelt(settings)
    try:
        return settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name, *place = first["loc"] or ("",)
        inside = f" ({'/'.join(map(str, place))})" if place else ""
        message = first["msg"].removeprefix("Value error, ")
        raise SuiteError("start.bad-setting", f"{_variable(settings, str(name))}{inside}: {message}") from None
    except SettingsError as error:  # the value of a complex field is no JSON
        found = _FIELD_IN_ERROR.search(str(error))
        name = _variable(settings, found[1]) if found else str(error).splitlines()[0]
        raise SuiteError("start.bad-setting", f"{name}: expected JSON") from None


def _refuse_misspelt(settings: type[BaseSettings]) -> None:
    known = names([settings])
    prefix = settings.model_config.get("env_prefix", "")
    for name in sorted(os.environ):
        if name.startswith(prefix) and name not in known:
            # Of as many words: PS_HL7_STOP_TIMEOUT_S is another service's, no misspelt PS_STOP_TIMEOUT_S.
            alike = [one for one in known if one.count("_") == name.count("_")]
            meant = get_close_matches(name, alike, n=1, cutoff=_MISSPELT_LIKENESS_MIN)
            if meant:
                raise SuiteError("start.bad-setting", f"{name}: there is no such setting; {meant[0]} is meant?")


def _variable(settings: type[BaseSettings], field: str) -> str:
    """The environment variable of a field."""
    return f"{settings.model_config.get('env_prefix', '')}{field.upper()}"


def catalogue_markdown(classes: Iterable[tuple[str, type[BaseSettings]]]) -> str:
    """`docs/settings.md`, from the classes."""
    lines = [
        "# Settings",
        "",
        "All settings are environment variables; an empty value counts as unset. A value that cannot be used stops the",
        "start with one line that names it. Generated from the settings classes.",
    ]
    for title, settings in classes:
        lines += ["", f"## {title}", "", "| setting | default | what it is |", "|---|---|---|"]
        for name, field in settings.model_fields.items():
            default = field.get_default(call_default_factory=True)
            lines.append(
                f"| `{_variable(settings, name)}` | {_shown(default)} | "
                f"{(field.description or '').replace('|', chr(92) + '|')} |"
            )
    return "\n".join(lines) + "\n"


def names(classes: Iterable[type[BaseSettings]]) -> set[str]:
    """The environment names of all settings."""
    return {_variable(cls, name) for cls in classes for name in cls.model_fields}


def environment_of(settings: Mapping[str, str]) -> None:
    """Put settings into this process's environment (the command line's options become settings)."""
    os.environ.update(settings)


def _shown(default: Any) -> str:
    if default in ("", (), {}, None):
        return "(empty)"
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`"
    return f"`{default}`"
