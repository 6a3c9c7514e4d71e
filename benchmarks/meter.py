"""CPU seconds of process trees, from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds of these processes and of all below them, those that ended included."""
    return sum(_of(pid) for root in pids for pid in tree(root)) / _TICKS


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the resident memory of these processes and of all below them."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for root in pids for pid in tree(root))


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
