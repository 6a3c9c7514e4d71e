"""What processes and a server have spent: CPU seconds of process trees from /proc, a server's from its INFO."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Spent:
    """What a server has spent: CPU seconds, commands (those of scripts too), bytes in and out."""

    cpu_s: float
    commands: int
    bytes_in: int
    bytes_out: int

    def since(self, before: Spent) -> Spent:
        """Return what was spent between the two."""
        return Spent(
            self.cpu_s - before.cpu_s,
            self.commands - before.commands,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
        )


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of these processes and of all below them, those that ended included."""
    return sum(_of(pid) for root in pids for pid in tree(root)) / _TICKS


def tree(pid: int) -> list[int]:
    """Return a process and all below it that live."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in below for one in tree(int(child)))]


def _of(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def spent(client: Any) -> Spent:
    """Return what a server has spent since it started, whoever asked it to; asking is left out as far as it can be.

    Args:
        client: of redis-py.
    """
    info = client.info("everything")
    commands = sum(
        int(stat["calls"])
        for name, stat in info.items()
        if name.startswith("cmdstat_") and name not in ("cmdstat_info", "cmdstat_ping")
    )
    return Spent(
        float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
        commands,
        int(info["total_net_input_bytes"]),
        int(info["total_net_output_bytes"]),
    )
