"""`python -m bench simulator-pages`: FHIR pages of 100 appointments that the simulator gives per second.

Over HTTP, with a token, following the `next` links as a run does, in a suite of which everything else is idle.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from e2e.suite_process import Suite, embedded_suite
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.report import figure

PAGE_RECORDS: Final = 100
PAGES: Final = 1_000
DAYS: Final = 28
PAGES_PER_SECOND_MIN: Final = 200.0
PRACTICES: Final = (1_000, 20_000)


def simulator_pages(folder: Path) -> Iterator[dict[str, object]]:
    """Pages per second of a practice whose people all fit what is kept, and of one whose do not."""
    with embedded_suite(folder / "pages", demo=False) as suite:
        for patients in PRACTICES:
            yield _figure(suite, patients)


def _figure(suite: Suite, patients: int) -> dict[str, object]:
    body = {"name": f"bench-{patients}", "vendor": "epic", "patients": patients}
    server = suite.call("POST", "/simulator/v1/servers", body)
    place = urlsplit(server["fhir_base"])
    connection = HTTPConnection(str(place.hostname), place.port, timeout=30)
    headers = {"Authorization": f"Bearer {_token(suite, connection, server)}", "Accept": "application/fhir+json"}
    first_day, last_day = (time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * 86_400)) for days in (0, DAYS))
    first = f"{place.path}/Appointment?date=ge{first_day}&date=le{last_day}&_count={PAGE_RECORDS}"
    _read(connection, first, headers, pages_max=20)
    began = time.perf_counter()
    pages, records = _read(connection, first, headers, pages_max=PAGES)
    rate = pages / (time.perf_counter() - began)
    connection.close()
    how = f"{pages} pages with {records} appointments, {patients} patients, one connection, one after the other"
    return figure(f"simulator pages, {patients} patients", rate, "pages/s", how, at_least=PAGES_PER_SECOND_MIN)


def _read(connection: HTTPConnection, first: str, headers: dict[str, str], *, pages_max: int) -> tuple[int, int]:
    path, pages, records = first, 0, 0
    while pages < pages_max:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"the simulator answered {response.status}")
        # Found in the bytes: reading JSON would measure this program.
        start = body.find(b'"relation":"next","url":"')
        records += body.count(b'"search":{"mode":"match"}')
        pages += 1
        if start < 0:
            path = first
            continue
        url = urlsplit(body[start + 25 : body.index(b'"', start + 25)].decode())
        path = f"{url.path}?{url.query}"
    return pages, records


def _token(suite: Suite, connection: HTTPConnection, server: dict[str, Any]) -> str:
    key = ECKey.generate_key("P-384", {"kid": "bench", "use": "sig", "alg": "ES384"})
    client = f"bench-{server['name']}"
    suite.call("PUT", f"/simulator/v1/clients/{client}", {"jwks": {"keys": [key.as_dict(private=False)]}})
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": server["token_url"], "iat": now, "exp": now + 240, "jti": client}
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode({"alg": "ES384", "kid": "bench"}, claims, key, algorithms=["ES384"]),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", urlsplit(server["token_url"]).path, urlencode(form), headers)
    return str(json.loads(connection.getresponse().read())["access_token"])
