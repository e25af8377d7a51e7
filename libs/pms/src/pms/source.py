"""Where a vendor fact comes from. A diagnosis that leans on an assumed one says so."""

from __future__ import annotations

from enum import StrEnum


class Source(StrEnum):
    """How well a fact is founded."""

    STANDARD = "standard"
    VENDOR_DOCUMENT = "vendor-document"
    LIVE_CAPTURE = "live-capture"
    CLIENT_CODE = "client-code"
    SECOND_HAND = "second-hand"
    INSTALLATION = "installation"
    """Stated by the engineers of this very installation."""
    ASSUMED = "assumed"
