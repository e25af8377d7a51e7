"""`Retry-After` in the three forms met in the field: seconds, an HTTP date, an absolute timestamp.

RFC 9110 §10.2.3 knows the first two; PMS vendors document none for 429 and 503, so all are read.
"""

from __future__ import annotations

import email.utils
import re
from datetime import UTC, datetime
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
# A wait of thirty years is no wait: from here on a number is a Unix time, and from the second bound on in milliseconds.
_EPOCH_S_MIN: Final = 10**9
_EPOCH_MS_MIN: Final = 10**12


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds to wait from `now` (aware), never negative; None when the header is absent or unreadable."""
    text = (value or "").strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number < _EPOCH_S_MIN:
            return number
        return _until(number / 1000 if number >= _EPOCH_MS_MIN else number, now)
    instant = _iso(text) or _http_date(text)
    return None if instant is None else _until(instant.timestamp(), now)


def _until(epoch_s: float, now: datetime) -> float:
    return max(0.0, epoch_s - now.timestamp())


def _iso(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _http_date(text: str) -> datetime | None:
    try:
        instant = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
