"""What idle processes ask of Redis, counted by Redis for each connection, and told to the process that has it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import redis

COUNTED = "tot-cmds"
"""The field of `CLIENT LIST`; Valkey has it since 8.1."""
ESTABLISHED = "01"


def commands_by_port(client: redis.Redis) -> dict[tuple[str, int], int]:
    """Return how many commands came over each open connection, by its id and its client's port.

    Raises:
        LookupError: the server does not count them.
    """
    found = {}
    for connection in client.client_list():
        if COUNTED not in connection:
            raise LookupError(f"The server does not say {COUNTED} in CLIENT LIST: take a Valkey of 8.1 or later.")
        found[connection["id"], int(connection["addr"].rpartition(":")[2])] = int(connection[COUNTED])
    return found


def commands_by_process(
    before: Mapping[tuple[str, int], int], after: Mapping[tuple[str, int], int], owners: Mapping[int, int]
) -> Counter[int]:
    """Return how many commands each process sent between two looks; what was closed meanwhile is not counted.

    Args:
        owners: the pid of each client's port.
    """
    sent: Counter[int] = Counter()
    for connection, count in after.items():
        if (pid := owners.get(connection[1])) is not None:
            sent[pid] += count - before.get(connection, 0)
    return sent


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
