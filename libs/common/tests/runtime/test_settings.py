"""Settings: each is documented, and a value that cannot be used is named by its environment variable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from common.models.errors import SuiteError
from common.runtime.settings import RuntimeSettings, ServiceSettings, catalogue_markdown, load, names
from suite.composition import SETTINGS

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "settings.md"
ISSUER = {"issuer": "https://id.example", "audience": "a", "tenant": "ten_1", "jwks_url": "https://id.example/keys"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of this process without settings."""
    for name in names(cls for _, cls in SETTINGS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_every_setting_is_documented_with_its_meaning() -> None:
    text = DOCUMENT.read_text()
    for _, cls in SETTINGS:
        for name, field in cls.model_fields.items():
            variable = f"{cls.model_config.get('env_prefix', '')}{name.upper()}"
            assert f"| `{variable}` |" in text, variable
            assert len(field.description or "") > 10, variable


def test_variables_begin_alike_and_belong_to_one_class() -> None:
    listed = [
        f"{cls.model_config.get('env_prefix', '')}{name.upper()}" for _, cls in SETTINGS for name in cls.model_fields
    ]
    assert all(name.startswith("PS_") for name in listed)
    assert len(listed) == len(set(listed)) == len(names(cls for _, cls in SETTINGS))


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PS_KEY", "c2VjcmV0")
    assert "c2VjcmV0" not in repr(load(RuntimeSettings))


GOOD: list[tuple[str, str, str, Any]] = [
    ("PS_PORT", "0", "port", 0),
    ("PS_PORT", "65535", "port", 65535),
    ("PS_PORT", "", "port", 8080),
    ("PS_CORS_ORIGINS", " https://app.example , http://127.0.0.1:3000 ,", "cors_origins",
     ("https://app.example", "http://127.0.0.1:3000")),
    ("PS_CORS_ORIGINS", "", "cors_origins", ()),
    ("PS_ALLOWED_NETWORKS", "public,10.0.0.0/8,::1", "allowed_networks", ("public", "10.0.0.0/8", "::1")),
    ("PS_PEERS", '{"sync": "http://sync:8080"}', "peers", {"sync": "http://sync:8080"}),
    ("PS_DATABASE_URL", "postgresql+asyncpg://u:p%40@[::1]:5432/d?ssl=require", "database_url",
     "postgresql+asyncpg://u:p%40@[::1]:5432/d?ssl=require"),
    ("PS_DATABASE_URL", "postgresql+asyncpg:///d?host=/run/postgresql", "database_url",
     "postgresql+asyncpg:///d?host=/run/postgresql"),
    ("PS_BUS_URL", "kafka://a:9092,b:9092", "bus_url", "kafka://a:9092,b:9092"),
    ("PS_LOG_LEVEL", "ERROR", "log_level", "ERROR"),
    ("PS_PUBLIC_URL", "https://suite.example/", "base_url", "https://suite.example"),
    ("PS_HOST", "::1", "base_url", "http://[::1]:8080"),
    ("PS_PUBLIC_URL", "https://suite.example", "issuer", "https://suite.example/auth"),
    ("PS_TOKEN_ISSUER", "urn:practice-studio:local", "issuer", "urn:practice-studio:local"),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text", "name", "value"), GOOD)
def test_values_that_can_be_used(
    environment: pytest.MonkeyPatch, variable: str, text: str, name: str, value: Any
) -> None:
    environment.setenv(variable, text)
    assert getattr(load(RuntimeSettings), name) == value


BAD: list[tuple[str, str, str]] = [
    ("PS_PORT", "66x61", "integer"),
    ("PS_PORT", "65536", "65535"),
    ("PS_PORT", "-1", "0"),
    ("PS_LOG_LEVEL", "debug", "DEBUG"),
    ("PS_LOG_FORMAT", "xml", "json"),
    ("PS_TELEMETRY_EXPORTER", "jaeger", "otlp"),
    ("PS_DATABASE_CONNECTIONS_MAX", "0", "1"),
    ("PS_BODY_BYTES_MAX", "10", "1024"),
    ("PS_STOP_TIMEOUT_S", "0", "greater"),
    ("PS_MEASUREMENT_EVERY_S", "often", "number"),
    ("PS_DATABASE_URL", "mysql://u:canary@h/d", "postgresql+asyncpg"),
    ("PS_DATABASE_URL", "postgresql://u:canary@h/d", "postgresql+asyncpg"),
    ("PS_DATABASE_URL", "postgresql+asyncpg://u:canary@h:x/d", "postgresql+asyncpg"),
    ("PS_DATABASE_URL", "postgresql+asyncpg://u:canary@h", "postgresql+asyncpg"),
    ("PS_DATABASE_URL", "canary", "postgresql+asyncpg"),
    ("PS_BUS_URL", "canary:9092", "kafka://"),
    ("PS_BUS_URL", "kafka://", "kafka://"),
    ("PS_PEERS", "canary", "JSON"),
    ("PS_PEERS", '["canary"]', "dictionary"),
    ("PS_PEERS", '{"sync": "canary:8080"}', "http://"),
    ("PS_ALLOWED_NETWORKS", "public,10.0.0.1/8", "10.0.0.1/8"),
    ("PS_ALLOWED_NETWORKS", "intranet", "intranet"),
    ("PS_CORS_ORIGINS", "https://app.example/", "without a path"),
    ("PS_CORS_ORIGINS", "app.example", "http"),
    ("PS_CORS_ORIGINS", "*", "http"),
    ("PS_PUBLIC_URL", "suite.example", "https://"),
    ("PS_PUBLIC_URL", "https://suite.example:x", "https://"),
    ("PS_OTLP_ENDPOINT", "collector:4318", "http://"),
    ("PS_OIDC_ISSUERS", "{", "JSON"),
    ("PS_OIDC_ISSUERS", json.dumps([{**ISSUER, "audience": None}]), "0/audience"),
    ("PS_OIDC_ISSUERS", json.dumps([{"issuer": "canary"}]), "0/audience"),
    ("PS_OIDC_ISSUERS", json.dumps([ISSUER, {**ISSUER, "algorithms": ["none"]}]), "1/algorithms/0"),
    ("PS_OIDC_ISSUERS", json.dumps([{**ISSUER, "algorithms": ["HS256"]}]), "0/algorithms/0"),
    ("PS_OIDC_ISSUERS", json.dumps([{**ISSUER, "jwks_url": "canary"}]), "0/jwks_url"),
    ("PS_OIDC_ISSUERS", json.dumps([{**ISSUER, "canary": 1}]), "0/canary"),
]


@pytest.mark.parametrize(("variable", "text", "said"), BAD)
def test_a_bad_value_is_named_by_its_variable_with_what_is_expected(
    environment: pytest.MonkeyPatch, variable: str, text: str, said: str
) -> None:
    environment.setenv(variable, text)
    with pytest.raises(SuiteError) as failed:
        load(RuntimeSettings)
    assert failed.value.code == "start.bad-setting"
    detail = str(failed.value.detail)
    assert detail.startswith(variable)
    assert said in detail
    assert "\n" not in detail
    assert "canary" not in detail.replace("0/canary", ""), "a value may be a secret"


def test_what_any_class_cannot_use_is_named_with_its_own_prefix(environment: pytest.MonkeyPatch) -> None:
    for _, cls in SETTINGS:
        for name, field in cls.model_fields.items():
            if field.annotation not in {int, float}:
                continue
            variable = f"{cls.model_config.get('env_prefix', '')}{name.upper()}"
            with environment.context() as changed:
                changed.setenv(variable, "many")
                with pytest.raises(SuiteError) as failed:
                    load(cls)
            assert str(failed.value.detail).startswith(f"{variable}: ")


def test_arguments_go_before_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PS_PORT", "1")
    assert load(RuntimeSettings, port=2).port == 2


def test_no_file_is_read(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PS_PORT=1\n")
    environment.chdir(tmp_path)
    assert load(RuntimeSettings).port == 8080


def test_the_catalogue_shows_defaults_and_keeps_its_table() -> None:
    class Odd(ServiceSettings):
        """A setting whose meaning holds a bar."""

        either: str = Field(default="", description="one|other")
        many: tuple[str, ...] = Field(default=("a", "b"), description="a list of things")

    text = catalogue_markdown([("Odd", Odd)])
    assert "| `EITHER` | (empty) | one\\|other |" in text
    assert "| `MANY` | `a,b` | a list of things |" in text


@pytest.mark.parametrize(("wrong", "meant"), [("PS_DATABSE_URL", "PS_DATABASE_URL"), ("PS_BUS_URI", "PS_BUS_URL")])
def test_a_misspelt_name_stops_the_start_and_is_told_what_was_meant(
    environment: pytest.MonkeyPatch, wrong: str, meant: str
) -> None:
    environment.setenv(wrong, "anything")
    with pytest.raises(SuiteError) as caught:
        load(RuntimeSettings)
    assert caught.value.code == "start.bad-setting"
    assert wrong in str(caught.value.detail)
    assert meant in str(caught.value.detail)


def test_no_setting_of_one_service_is_taken_for_a_misspelt_one_of_another(environment: pytest.MonkeyPatch) -> None:
    for name in names(cls for _, cls in SETTINGS):
        environment.setenv(name, "")
    for foreign in ("PS_REQUIRE_SERVERS", "PS_SYNC_SERVICE_HOST", "PS_OTHER"):
        environment.setenv(foreign, "1")
    for _, cls in SETTINGS:
        assert load(cls) is not None
