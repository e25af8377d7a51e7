"""Whether this machine's clock follows a time source: the kernel's own word for it, Linux `adjtimex(2)`, read only.

It is the one time source that needs no network and no right: NTP daemons tell the kernel when they hold the clock.
"""

from __future__ import annotations

import ctypes
from typing import Final

# Longer than `struct timex` of any architecture; zeros: nothing is to be changed.
_TIMEX_BYTES: Final = 1024
_TIME_ERROR: Final = 5
_FAILED: Final = -1


def kernel_clock_synchronised() -> bool | None:
    """Whether the kernel holds its clock for synchronised; None where it cannot be asked (not Linux, a sandbox)."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    return synchronised(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))


def synchronised(state: int) -> bool | None:
    """What the state that `adjtimex` returns says: TIME_ERROR is a clock that nothing holds."""
    return None if state == _FAILED else state != _TIME_ERROR
