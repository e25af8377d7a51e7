"""docs/simulator-hl7.md: the simulator's HL7 side, with its tables from the rows themselves."""

from __future__ import annotations

from typing import Final

from simulator.core.fault_row import FaultRow
from simulator.core.hl7_faults import RECEIVER_FAULTS, SENDER_FAULTS
from simulator.core.hl7_messages import FEED_KINDS

_OPENING: Final = """\
# The simulator's HL7 side

Feeds of a simulated practice, a receiver for our senders, and the faults of HL7 v2 and MLLP (group D of the causes).
Generated from the simulator's rows (`python -m suite.documents`); each fault's effect is tested through the gateway
(`tests/e2e/test_hl7_faults.py`).

Switch a fault on with `PUT /simulator/v1/faults/{name}`, body `{"parameters": {…}, "ends_after_s": 60}` or `{}`; off
with `DELETE`; `GET /simulator/v1/faults` lists them all. Several may be on; of those that change the framing or the
pace the first one of this order decides: idle, half-open, trickle, start missing, end wrong, duplicates.
"""
_RECEIVER: Final = """
The receiver listens on `PS_SIMULATOR_RECEIVER_PORT` (0: any free port, shown by `GET /simulator/v1/receiver`; not set:
none) and answers AA. `GET /simulator/v1/receiver/messages` lists control id, type, size and answer of the last 10,000
messages, and nothing of what they say; `DELETE` empties it.
"""
_FEEDS: Final = """
## Feeds

`PUT /simulator/v1/feeds/{name}` starts one, `GET` shows what was sent and how it was answered, `DELETE` ends it:

    {"port": 2575, "rate_per_minute": 600, "curve": "workday", "connections": 4, "seed": 7, "messages_max": 10000}

The same seed sends the same messages (their times aside); a patient's messages keep to one connection and so their
order.

`curve`: `constant`; `workday` (peaks in the morning and after lunch in the practice's time zone, few at night and at
the weekend, distances exponential); `shape`. `mix` replaces the weights of the table, e.g. `{"ADT^A08": 3}`.
Patients and appointments are those of the simulated FHIR server: the identifiers agree.

| kind | structure | weight |
|---|---|---|
"""
_CAPTURE: Final = """
## A real feed's shape

    python -m simulator capture FILE… --output shape.json

reads HL7 files (messages, batches, MLLP captures) and writes what can be counted: message types, versions and
character sets of HL7's closed tables (anything else is `other`), delimiters, the order of segments, and for each field
how often it is filled or null, repeats, and how long it is (classes of powers of two), and the distances in time by
class. Names of site-defined segments become `ZZZ`. No other value of a message is in it; a test puts canaries into
every field. Give the file to a feed as `shape` and it sends synthetic messages of that shape.
"""


def simulator_hl7_markdown() -> str:
    """The document."""
    kinds = "".join(f"| `{row.name}` | {row.structure} | {row.weight} |\n" for row in FEED_KINDS.values())
    senders = _table("## Hostile senders (`POST /simulator/v1/hl7:send` and the feeds)", SENDER_FAULTS)
    receivers = _table("## The simulated receiver, well or hostile", RECEIVER_FAULTS, _RECEIVER)
    return f"{_OPENING}\n{senders}\n{receivers}{_FEEDS}{kinds}{_CAPTURE}"


def _table(title: str, rows: tuple[FaultRow, ...], text: str = "") -> str:
    lines = [f"| `{row.name}` | {row.cause} | {row.title} | {_parameters(row)} | {row.expected} |\n" for row in rows]
    head = "| fault | cause | what | parameters (default) | effect |\n|---|---|---|---|---|\n"
    return f"{title}\n{text}\n{head}{''.join(lines)}"


def _parameters(row: FaultRow) -> str:
    return ", ".join(f"`{each.name}` ({each.default}): {each.what}" for each in row.parameters) or "–"
