"""An HTTP answer as a value: what the simulated vendor's servers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

FHIR_JSON: Final = "application/fhir+json"
FHIR_XML: Final = "application/fhir+xml"
NDJSON: Final = "application/fhir+ndjson"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (without Content-Length and Date) and body bytes."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(status: int, document: Any, content_type: str = "application/json", **headers: str) -> Answer:
    """A JSON body in UTF-8; header names are given with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, orjson.dumps(document), {"Content-Type": content_type, **named})


def html_not_found() -> Answer:
    """A path that no application of the web server answers: its own page, no OperationOutcome."""
    body = (
        b"<!DOCTYPE html><html><head><title>404 - File or directory not found.</title></head><body>"
        b"<h2>404 - File or directory not found.</h2><h3>The resource you are looking for might have been removed, "
        b"had its name changed, or is temporarily unavailable.</h3></body></html>"
    )
    return Answer(404, body, {"Content-Type": "text/html"})
