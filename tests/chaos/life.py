"""Rules about processes: those that live work, and none ends that nobody has ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.evidence import Evidence

ENDING = (signal.SIGKILL, signal.SIGTERM)
WORKER_ENDED = re.compile(r"Worker process \d+ (ended with code [1-9]\d*|was killed by \w+|cannot run the application)")
"""What a supervisor's log says of those that it did not send away itself."""
KILLED = "was killed by SIGKILL"


def pid_of(worker: str) -> int:
    """Return the pid in a consumer's name: a host's name, the pid, a random word."""
    return int(worker.rsplit("-", 2)[1])


def silent(evidence: Evidence) -> Iterator[str]:
    """At rest every living reader handles what is published, and either archiver stores it without the other."""
    yield from evidence.stage.silent


def ended_unasked(evidence: Evidence) -> Iterator[str]:
    """Processes end of a fault's signal, or of an event that kills, and of nothing else."""
    cast = evidence.stage.cast
    ended = {one.pid for one in cast.signalled if one.number in ENDING}
    ended |= {line["pid"] for line in evidence.journal if line["word"] == "dies"}
    for one in cast.exits:
        if one.pid not in ended:
            yield f"{one.role} {one.pid} ended of its own accord, with {one.code}: see {one.role}.log."
    others = {one.pid for one in cast.exits} | {role.process.pid for role in cast.roles.values() if role.process}
    yield from _workers_ended(cast.folder / "fleet.log", len(ended - others))


def _workers_ended(log: Path, killed: int) -> Iterator[str]:
    """A supervisor names no pids: of those that a signal has killed there are no more than were sent one."""
    said = WORKER_ENDED.findall(log.read_text(errors="replace"))
    if (found := said.count(KILLED)) > killed:
        yield f"{found} worker processes were killed; {killed} were sent a signal, or handled what kills."
    yield from (f"A worker process {what}: see fleet.log." for what in said if what != KILLED)
