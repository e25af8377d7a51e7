"""Bodies of HL7 messages, read from hl7-gateway in batches."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import hl7v2
from common.models.clock import parse_instant
from common.models.errors import SuiteError
from common.runtime.peers import Peers
from sync.core.hl7_message import parse
from sync.core.hl7_reading import Message
from sync.ports import RawMessage

IDS_PER_REQUEST_MAX: Final = 200
# The consumer's transaction waits meanwhile: rather soon again than long now.
_TIMEOUT_S: Final = 5.0


class PeerMessages:
    """`Messages`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def read(self, tenant: str, ids: Sequence[str]) -> Mapping[str, RawMessage]:
        found: dict[str, RawMessage] = {}
        for start in range(0, len(ids), IDS_PER_REQUEST_MAX):
            response = await self._peers.request(
                "hl7-gateway",
                "POST",
                "/hl7/v1/messages:read",
                tenant=tenant,
                json={"ids": list(ids[start : start + IDS_PER_REQUEST_MAX])},
                timeout_s=_TIMEOUT_S,
            )
            for row in response.json()["items"]:
                found[row["id"]] = RawMessage(
                    id=row["id"],
                    channel=row["channel"],
                    message_type=row["message_type"],
                    trigger_event=row["trigger_event"],
                    received_at=parse_instant(row["received_at"]),
                    body=base64.b64decode(row["body"]),
                    encoding=row.get("encoding"),
                )
        return found

    def parse(self, message: RawMessage) -> Message:
        try:
            return parse(message.body, message.encoding)
        except hl7v2.ParseError as error:
            raise SuiteError("hl7.unparsable") from error
