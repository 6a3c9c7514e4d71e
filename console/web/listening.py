"""Where the web process listens: the port is had before anything else is begun, or a sentence says why not."""

from __future__ import annotations

import errno
import socket

from console.exits import Failed

BACKLOG = 2048
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def listening(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at every address of a host, as asyncio's would; one at least.

    Args:
        host: a name or an address. port: 0 is any free one.

    Raises:
        Failed: the port is taken or may not be used, or the host is not this machine; nothing listens then.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sockets.append(_listening(family, kind, protocol, address))
            except OSError as error:  # a name may have an address of a family that this machine does not have
                if error.errno not in _NOT_HERE:
                    raise
    except (OSError, UnicodeError) as error:
        for one in sockets:
            one.close()
        raise Failed(_said(host, port, error)) from None
    if not sockets:
        raise Failed(_said(host, port, socket.gaierror()))
    return sockets


def _listening(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[object, ...]
) -> socket.socket:
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except BaseException:
        found.close()
        raise
    return found


def _said(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"This machine has no address {host!r:.100}: give one with --host; 0.0.0.0 is all of them."
    if number == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken: give another one with --port, or set PORT."
    if number == errno.EACCES:
        return f"Port {port} of {host} may not be used by this user: give one above 1023 with --port, or set PORT."
    return f"Port {port} of {host} cannot be listened at: {error}."
