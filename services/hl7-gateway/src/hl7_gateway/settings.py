"""Settings of the HL7 gateway."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common.runtime.settings import ServiceSettings


class Hl7GatewaySettings(ServiceSettings):
    """Prefix `PS_HL7_`."""

    model_config = SettingsConfigDict(env_prefix="PS_HL7_", env_ignore_empty=True, extra="ignore", frozen=True)

    listen_host: str = Field(default="127.0.0.1", description="address the MLLP listener listens on")
    listen_port: int = Field(default=2575, ge=0, le=65535, description="port of the MLLP listener (0: any free one)")
    frame_bytes_max: int = Field(
        default=16 * 1024 * 1024, ge=1024, le=1024**3, description="largest HL7 message in bytes"
    )
    connections_max: int = Field(
        default=1000, ge=1, le=100_000, description="open MLLP connections; one more is closed at once, and logged"
    )
    idle_timeout_s: float = Field(
        default=3600.0, gt=0, description="a connection on which no message came for so long is closed"
    )
    frame_timeout_s: float = Field(
        default=60.0, gt=0, description="a message must be complete so long after its first byte"
    )
    store_timeout_s: float = Field(
        default=4.0, gt=0, le=4.5, description="a message not stored after so long is answered negatively"
    )
    stop_timeout_s: float = Field(
        default=10.0, gt=0, description="how long a stop waits for frames in hand and their acknowledgements"
    )
    connection_waiting_messages_max: int = Field(
        default=64, ge=1, le=10_000, description="messages of one connection that may wait to be stored"
    )
    waiting_bytes_max: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="bytes of all messages that may wait to be stored"
    )
    batch_messages_max: int = Field(default=512, ge=1, le=2900, description="messages one transaction stores at most")
    duplicate_window_s: float = Field(
        default=7 * 24 * 3600.0, gt=0, description="how long a repeated message is recognised"
    )
    bodies_kept_s: float = Field(
        default=90 * 24 * 3600.0, ge=24 * 3600.0, description="how long the contents of received messages are kept"
    )
    bodies_bytes_max: int = Field(
        default=0, ge=0, description="the oldest contents are deleted earlier when all take more (0: no limit)"
    )
    headers_kept_s: float = Field(
        default=400 * 24 * 3600.0, ge=24 * 3600.0, description="how long it is known which messages were received"
    )
    outbound_kept_s: float = Field(
        default=30 * 24 * 3600.0, gt=0, description="how long sent and discarded messages are kept"
    )
    send_lease_s: float = Field(
        default=10.0,
        ge=1,
        le=300,
        description="after the replica that works a sender's queue died, another one takes over so much later",
    )
