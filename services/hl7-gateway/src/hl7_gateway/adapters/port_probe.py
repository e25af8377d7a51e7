"""Whether this machine lets us listen at an address and port: found out by doing it, for a moment."""

from __future__ import annotations

import errno
import socket

from common.models.errors import SuiteError


class SocketPortProbe:
    """`PortProbe`."""

    def check(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the listener does it: a port whose last connections still linger can be listened on again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                code = "connection.port-in-use" if error.errno == errno.EADDRINUSE else "connection.port-unusable"
                raise SuiteError(code, f"{host}:{port}: {error.strerror or 'cannot be listened on'}.") from error
