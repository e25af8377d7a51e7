"""Finding out that a peer is gone without a word: its power failed, or a firewall forgot the connection.

The system's own times are for another century: two hours until the first probe (RFC 9293 §3.8.4 lets it be set).
"""

from __future__ import annotations

import errno
import socket
from typing import Final

IDLE_S: Final = 60
PROBE_EVERY_S: Final = 15
PROBES: Final = 4
UNACKNOWLEDGED_MS_MAX: Final = 1000 * (IDLE_S + PROBE_EVERY_S * PROBES)
"""How long what we wrote may stay unacknowledged by the peer's system: then the connection ends with ETIMEDOUT."""
NOBODY_THERE: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH})
"""What the system says at the end: nobody answered; or, where it also looked for a neighbour's machine or for a road in
the meantime, that there is none (RFC 1122 §4.2.3.9: a soft error, which is told when the connection is given up)."""


def keep_alive(endpoint: socket.socket, wanted: bool) -> None:
    """Probe a silent peer, so that it is found to be gone after two minutes; raises OSError."""
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(wanted))
    if not wanted:
        return
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", PROBE_EVERY_S),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS_MAX),
    ):
        option = getattr(socket, name, None)  # not every system has them all
        if option is not None:
            endpoint.setsockopt(socket.IPPROTO_TCP, option, value)
