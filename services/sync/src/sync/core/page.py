"""A page of a run: what to ask for, and where the cursor stands afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pms.fhir import FhirRequest, appointments_in_window
from sync.core.run import Run, RunCursor
from sync.core.windows import windows_of

OPERATION: Final = "Appointment.search"
PAGES_PER_WINDOW_MAX: Final = 10_000
"""A vendor that always has one more page, each a little different, ends here."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The next page of appointments: a `next` link to follow as it stands, or the first request of a window."""

    request: FhirRequest
    link: str | None

    @property
    def key(self) -> str:
        """What is noted of the request, so that a link that leads back is seen."""
        return "link:" + _hash(self.link if self.link is not None else repr(self.request.query))


def page_request(run: Run, cursor: RunCursor, *, page_records: int) -> PageRequest:
    """What to ask for next."""
    window = windows_of(run.mode, cursor.anchor)[cursor.window]
    return PageRequest(appointments_in_window(window.first, window.last, count=page_records), cursor.next_link)


def page_key(cursor: RunCursor, ids: Sequence[str]) -> str | None:
    """What is noted of a page's contents; an empty page is no sign of standing still."""
    return f"page:{cursor.window}:{_hash(','.join(ids))}" if ids else None


def id_key(external_id: str) -> str:
    """What is noted of a resource that was asked for by id."""
    return "id:" + _hash(external_id)


def advanced(run: Run, cursor: RunCursor, next_link: str | None) -> RunCursor | None:
    """The cursor behind a page; None when it was the last page of the last window."""
    if next_link is not None:
        return replace(cursor, next_link=next_link, window_pages=cursor.window_pages + 1)
    if cursor.window + 1 >= len(windows_of(run.mode, cursor.anchor)):
        return None
    return RunCursor(cursor.anchor, cursor.window + 1)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
