"""Testing a connection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from common.models.identifiers import check_id
from common.runtime.authentication import Caller, caller_of
from hl7_gateway.core.sample_messages import Parties
from hl7_gateway.ports import ConnectionBook
from hl7_gateway.use_cases.try_connection import Asked, TryConnection

Who = Annotated[Caller, Depends(caller_of)]


class ConnectionTest(BaseModel):
    """How a connection is tested."""

    model_config = ConfigDict(extra="forbid")

    samples: bool = Field(
        default=False,
        description="also send a synthetic patient (TEST of PSTEST) in diverse character sets; ask its owner",
    )
    sending_application: str = Field(default="PRACTICESTUDIO", max_length=180, description="MSH-3")
    sending_facility: str = Field(default="TEST", max_length=180, description="MSH-4")
    receiving_application: str = Field(default="", max_length=180, description="MSH-5")
    receiving_facility: str = Field(default="", max_length=180, description="MSH-6")
    processing_id: Literal["T", "D", "P"] = Field(default="T", description="MSH-11 (HL7 table 0103)")
    version: str = Field(default="2.5.1", pattern=r"^2(\.[0-9]{1,2}){1,2}$", description="MSH-12")


def add_routes(api: APIRouter, book: ConnectionBook, test: TryConnection) -> None:
    """Paths begin after /hl7/v1."""

    @api.post("/connections/{connection_id}:test", summary="Test an HL7 connection (Test Connection)")
    async def test_connection(connection_id: str, body: ConnectionTest, caller: Who) -> dict[str, Any]:
        """Stage by stage: resolve, connect, TLS, an echo message, its acknowledgement, samples; next steps beside."""
        connection = await book.get(caller.tenant, check_id(connection_id, "con"))
        stages = await test(connection, Asked(Parties(**body.model_dump(exclude={"samples"})), body.samples))
        outcome = "failed" if any(stage.status == "failed" for stage in stages) else "passed"
        return {"connection_id": connection.id, "outcome": outcome, "stages": [stage.as_json() for stage in stages]}
