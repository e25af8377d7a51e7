"""Which modules make the suite, and in which order they start: who is asked starts before who asks."""

from __future__ import annotations

from typing import Final

from pydantic_settings import BaseSettings

import alerts.module
import auth_gateway.module
import diagnostics.module
import hl7_gateway.module
import simulator.module
import sync.module
from alerts.settings import AlertsSettings
from auth_gateway.settings import AuthGatewaySettings
from common.runtime.host import Build
from common.runtime.settings import RuntimeSettings
from diagnostics.settings import DiagnosticsSettings
from hl7_gateway.settings import Hl7GatewaySettings
from simulator.settings import SimulatorSettings
from sync.settings import SyncSettings

SIMULATOR: Final[Build] = simulator.module.build
SERVICES: Final[dict[str, Build]] = {
    "auth-gateway": auth_gateway.module.build,
    "diagnostics": diagnostics.module.build,
    "alerts": alerts.module.build,
    "sync": sync.module.build,
    "hl7-gateway": hl7_gateway.module.build,
    "simulator": SIMULATOR,
}

SETTINGS: Final[tuple[tuple[str, type[BaseSettings]], ...]] = (
    ("Every process", RuntimeSettings),
    ("auth-gateway", AuthGatewaySettings),
    ("sync", SyncSettings),
    ("hl7-gateway", Hl7GatewaySettings),
    ("diagnostics", DiagnosticsSettings),
    ("alerts", AlertsSettings),
    ("simulator", SimulatorSettings),
)
