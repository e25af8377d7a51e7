"""Exchange records of what is sent."""

from __future__ import annotations

from common.runtime.exchanges import Exchange, Exchanges
from hl7_gateway.ports import Delivered


class ExchangeDeliveryJournal:
    """`DeliveryJournal`."""

    def __init__(self, exchanges: Exchanges) -> None:
        self._exchanges = exchanges

    def tried(self, delivered: Delivered) -> None:
        connection = delivered.connection
        self._exchanges.record(
            Exchange(
                tenant=connection.tenant,
                integration_id=connection.configuration.integration_id,
                channel=connection.sending.destination,
                kind="hl7v2",
                direction="outbound",
                operation=delivered.operation,
                endpoint=connection.endpoint,
                started_at=delivered.started_at,
                duration_ms=delivered.duration_ms,
                outcome="ok" if delivered.error_code is None else "failed",
                error_code=delivered.error_code,
                request_bytes=delivered.request_bytes,
            )
        )
