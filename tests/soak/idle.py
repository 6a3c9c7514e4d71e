"""What idle processes ask of Redis, as its MONITOR shows it, told to the process that has the connection.

Only what is sent counts. `CLIENT LIST` would count for a connection what its scripts call inside the server, too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

ESTABLISHED = "01"
HEARD_S = 30.0


def commands_by_port(client: redis.Redis, play: Callable[[], None]) -> Counter[int]:
    """Return how many commands came over TCP from each client's port while something was played.

    Raises:
        redis.RedisError, TimeoutError: not all was heard: the connection that listens was lost, or is behind.
    """
    last = secrets.token_hex(8)

    def listen(monitor: Any) -> Counter[int]:
        sent: Counter[int] = Counter()
        while last not in (told := monitor.next_command())["command"]:
            if told["client_type"] == "tcp":
                sent[int(told["client_port"])] += 1
        return sent

    with client.monitor() as monitor, ThreadPoolExecutor(1, "soak-monitor") as listening:
        heard = listening.submit(listen, monitor)
        try:
            play()
            client.echo(last)
            return heard.result(HEARD_S)
        finally:
            monitor.connection.disconnect()  # wakes who listens still


def commands_by_process(sent: Mapping[int, int], owners: Mapping[int, int]) -> Counter[int]:
    """Return how many commands each process sent.

    Args:
        sent: by the client's port. owners: the pid of each port.
    """
    found: Counter[int] = Counter()
    for port, count in sent.items():
        if (pid := owners.get(port)) is not None:
            found[pid] += count
    return found


def owners_of_ports(pids: Iterable[int]) -> dict[int, int]:
    """Return which process has which local port of an open IPv4 connection."""
    ports = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == ESTABLISHED:
            ports[f"socket:[{words[9]}]"] = int(words[1].rpartition(":")[2], 16)
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path("/proc", str(pid), "fd").iterdir():
                with contextlib.suppress(OSError):
                    if (port := ports.get(os.readlink(descriptor))) is not None:
                        found[port] = pid
    return found
