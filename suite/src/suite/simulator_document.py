"""docs/simulator-hl7.md and docs/simulator-faults.md: the simulator's faults, with their tables from the rows."""

from __future__ import annotations

from typing import Final

from simulator.core.fault_row import FaultRow
from simulator.core.hl7_faults import RECEIVER_FAULTS, SENDER_FAULTS
from simulator.core.hl7_messages import FEED_KINDS
from simulator.core.toxics import CERTIFICATES, ROWS
from simulator.core.vendor_faults import AUTHENTICATION_FAULTS, CONNECTION_FAULTS, VENDOR_FAULTS, WRITE_FAULTS

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
_FAULTS: Final = """\
# The simulator's faults

What a vendor's server, and the network before it, can be made to do wrong. Generated from the simulator's rows
(`python -m suite.documents`); what Test Connection then says is tested for each of them
(`tests/e2e/test_connection_faults.py`, `tests/e2e/test_network_faults.py`).

A server that was made by name has faults of its own: `PUT /simulator/v1/servers/{name}/faults/{fault}`, body
`{"parameters": {…}, "ends_after_s": 60}` or `{}`; `DELETE` ends one, or all of the server; `GET` lists them. The
practices of the settings share theirs: `PUT /simulator/v1/faults/{fault}`. Several may be on; what stands further
out on the way
answers first.

"""
_PROXIES: Final = """
## The network

`POST /simulator/v1/proxies`, body `{"name": "bad", "upstream_port": 8080}`, opens a port of its own before a server:
put its `listen` into the integration's addresses. `PATCH` with `listening`: `open`, `closed` (connections are
refused, B2),
`dropping` (they are not answered at all, B3). A name that does not exist (B1) needs no proxy: `pms.simulator.invalid`.
`PUT /simulator/v1/proxies/{name}/toxics/{toxic}`, body `{"type": "latency", "stream": "downstream", "toxicity": 1.0,
"attributes": {"latency": 2000}}`, in toxiproxy's vocabulary (`stall_data` is ours); new connections meet it.

| toxic | cause | what | attributes (default) | expected |
|---|---|---|---|---|
"""
_TLS: Final = """
With `tls` the port speaks TLS. `GET /simulator/v1/authority` is its root: trust it, or keep one in
`PS_SIMULATOR_AUTHORITY_FILE` and start the suite with `SSL_CERT_FILE` on it.

| `tls` | cause | expected |
|---|---|---|
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
    numbers = [f"`{each.name}` ({each.default}): {each.what}" for each in row.parameters]
    words = [f"`{each.name}` ({', '.join(each.values)}): {each.what}" for each in row.choices]
    return ", ".join([*numbers, *words]) or "–"


def simulator_faults_markdown() -> str:
    """docs/simulator-faults.md."""
    tables = (
        _vendor_table("## Authentication", AUTHENTICATION_FAULTS),
        _vendor_table("## Connection", CONNECTION_FAULTS),
        _vendor_table("## One vendor's own", VENDOR_FAULTS),
        _vendor_table("## Writes", WRITE_FAULTS),
    )
    toxics = "".join(
        f"| `{row.kind}` | {row.cause} | {row.title} | "
        + (", ".join(f"`{each.name}` ({each.default}): {each.what}" for each in row.attributes))
        + f" | {row.expected} |\n"
        for row in ROWS.values()
    )
    certificates = "".join(
        f"| `{kind.value}` | {cause or '–'} | {expected} |\n" for kind, (cause, expected) in CERTIFICATES.items()
    )
    return _FAULTS + "\n".join(tables) + _PROXIES + toxics + _TLS + certificates


def _vendor_table(title: str, rows: tuple[FaultRow, ...]) -> str:
    head = "| fault | cause | servers | what | parameters (default) | expected |\n|---|---|---|---|---|---|\n"
    lines = [
        f"| `{row.name}` | {row.cause} | {', '.join(sorted(row.vendors)) or 'all'} | {row.title} "
        f"| {_parameters(row)} | {row.expected} |\n"
        for row in rows
    ]
    return f"{title}\n\n{head}{''.join(lines)}"
