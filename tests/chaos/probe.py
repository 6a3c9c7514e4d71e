"""What is asked of a run at rest: that every process that lives still works, and each archiver without the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

from sqlalchemy import text

from events.event import Event
from tests.chaos.cast import Role
from tests.chaos.life import pid_of
from tests.chaos.stage import NAMESPACE, Stage

ANSWER_S = 40.0
BURST = 48
"""More than the threads of one process, so that none takes them all."""
AGAIN_S = 4.0
ANSWERED = "SELECT DISTINCT worker FROM outcomes WHERE namespace = :n AND subscriber = 'Prober' AND state = 'done'"
STORED = "SELECT count(*) FROM events WHERE namespace = :n AND event_id = :e"


def probe(stage: Stage) -> None:
    """Publish to everybody, then with one archiver stopped; note in `stage.silent` who does nothing."""
    stage.silent += [*_readers(stage), *_archiver(stage)]


def _readers(stage: Stage) -> list[str]:
    """Every worker process and the application settle something of what is published now, burst after burst."""
    until = time.monotonic() + ANSWER_S * stage.patience
    while (missing := _missing(stage)) and time.monotonic() < until:
        _publish(stage, BURST)
        _comes(stage, lambda: not _missing(stage), AGAIN_S)
    return missing


def _missing(stage: Stage) -> list[str]:
    answered = {pid_of(row[0]) for row in _rows(stage, ANSWERED)}
    workers = stage.cast.pids("worker")
    few = [f"Of {stage.workers} worker processes {len(workers)} live."] if len(workers) < stage.workers else []
    living = [("worker", pid) for pid in workers] + [("application", pid) for pid in stage.cast.pids("application")]
    return few + [f"The {kind} {pid} lives and handles nothing." for kind, pid in living if pid not in answered]


def _archiver(stage: Stage) -> Iterator[str]:
    """One archiver, told by the seed, is stopped: the other stores what is published."""
    roles = [role for role in stage.cast.roles.values() if role.name.startswith("archiver")]
    stopped, other = (roles[(stage.seed + turn) % 2] for turn in (0, 1))
    stopped.wanted = False
    for pid in _pids(stopped):
        stage.cast.signal(pid, signal.SIGTERM)
    if not _comes(stage, lambda: stopped.process is None or stopped.process.poll() is not None):
        yield f"{stopped.name} does not end when it is told to."
    (event_id,) = _publish(stage, 1)
    if not _comes(stage, lambda: bool(_rows(stage, STORED, e=event_id)[0][0])):
        yield f"{other.name} {_pids(other)} lives and stores nothing while {stopped.name} is stopped."
    stopped.wanted = True


def _publish(stage: Stage, count: int) -> list[str]:
    first = len(stage.probes)
    events = [
        Event(event_id=f"EV-{stage.seed}-probe-{n}", project_id=f"P{n}", type="PROBE", actor="chaos")
        for n in range(first, first + count)
    ]
    ids = [event.event_id for event in events]
    if stage.publish(*events):
        stage.probes += ids
    return ids


def _comes(stage: Stage, condition: Callable[[], bool], within_s: float = ANSWER_S) -> bool:
    until = time.monotonic() + within_s * stage.patience
    while not condition():
        if time.monotonic() >= until:
            return False
        stage.play(0.2)
    return True


def _pids(role: Role) -> list[int]:
    return [role.process.pid] if role.process is not None and role.process.poll() is None else []


def _rows(stage: Stage, sql: str, **values: str) -> list[tuple[object, ...]]:
    with stage.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), {"n": NAMESPACE, **values})]
