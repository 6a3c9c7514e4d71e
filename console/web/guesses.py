"""Guessing tokens: an address that names many different wrong ones is not listened to for a while.

Different ones are counted, so that a program with an old token, which names the same wrong one for ever, keeps nobody
out who shares its address. Behind a proxy every client has the proxy's address, unless uvicorn is told to believe what
it says of them (`FORWARDED_ALLOW_IPS`).
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MOST = 20
WINDOW_S = 600.0
MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Tries:
    """What an address has named.

    Attributes:
        since: when it began to. digests: of the wrong tokens.
    """

    since: float
    digests: set[bytes] = field(default_factory=set)


class Guesses:
    """Counts wrong tokens by address, of the `MOST_ADDRESSES` that named some last.

    Args:
        clock: tells the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def deaf_s(self, address: str) -> float:
        """Return for how many seconds more no token from an address is looked at; 0 when it is."""
        tries = self._of(_network(address))
        if tries is None or len(tries.digests) < MOST:
            return 0.0
        return tries.since + WINDOW_S - self._clock()

    def wrong(self, address: str, digest: bytes) -> None:
        """Note that an address has named a wrong token."""
        network = _network(address)
        tries = self._of(network) or _Tries(self._clock())
        if len(tries.digests) < MOST:
            tries.digests.add(digest)
        self._tries[network] = tries
        self._tries.move_to_end(network)
        if len(self._tries) > MOST_ADDRESSES:
            self._tries.popitem(last=False)

    def _of(self, network: str) -> _Tries | None:
        tries = self._tries.get(network)
        if tries is not None and self._clock() >= tries.since + WINDOW_S:
            del self._tries[network]
            return None
        return tries


def _network(address: str) -> str:
    """Return what one client has of addresses: of IPv6 that is a network of 64 bits, of which it may use each."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return address
