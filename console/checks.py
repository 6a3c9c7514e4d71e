"""The doctor's checks: what is wrong, in words, and what to do about it.

A finding is `wrong` when events are not handled, are not kept, or could be lost; the exit code follows.
It is a `warning` when somebody should look; `ok` says what was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from console import wording
from console.agreement import compare
from console.archiving import STUCK_S, examine_archive, examine_end
from console.gaps import examine_gaps
from console.outgoing import examine_outbox
from console.punctuality import examine_time

if TYPE_CHECKING:
    from events.backend import Backend
    from events.dead_letters import DeadLetters
    from events.inspection import Inspection, Queue, Server
    from events.roster import Worker

OLDEST_VERSION = {"redis": (7, 0), "valkey": (8, 0)}
NEARLY_FULL = 0.9
Level = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: what: redis, namespace, a subscriber, archive, database.
        says: a sentence. todo: what to do, a sentence; empty when there is nothing to do.
    """

    level: Level
    about: str
    says: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database was found to be.

    Attributes:
        state: `read`; `empty`, when the file or the schema is not there, so that no history can be; or
            `unread`, when nobody can tell.
        highest: the highest position it knows; 0 unless it was read.
    """

    state: Literal["read", "empty", "unread"]
    highest: int = 0


@dataclass(slots=True)
class Report:
    """Every finding, and the numbers behind them."""

    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return not any(finding.level == "wrong" for finding in self.findings)

    def add(self, level: Level, about: str, says: str, todo: str = "") -> None:
        self.findings.append(Finding(level, about, says, todo))


def examine(backend: Backend) -> Report:
    """Look at everything that can be reached."""
    report = Report()
    stored = _database(report, backend)
    _redis(report, backend, stored)
    return report


def _database(report: Report, backend: Backend) -> Stored:
    """Look at the database."""
    from events.errors import EventBusError, NotMigrated
    from store.failures import name_of
    from store.inspection import counted, rejected_rows
    from store.migrate import current, require_current

    absent = absent_file(backend)
    if absent is not None:
        level: Level = "wrong" if backend.settings.database_url else "ok"
        todo = "Check DATABASE_URL, or run `eventbus migrate`." if backend.settings.database_url else ""
        report.add(level, "database", f"There is no file {absent}: nothing is stored.", todo)
        _warn_of_own_file(report, backend)
        return Stored("empty")
    try:
        engine = backend.blackboard.engine
        require_current(engine)
        rejected = rejected_rows(engine, backend.settings.namespace)
        waiting = backend.archive.outgoing.waiting()
        sums = counted(engine, backend.settings.namespace)
        highest = backend.archive.highest_position()
    except NotMigrated as error:
        report.add("wrong", "database", str(error))
        return Stored("empty" if current(engine) is None else "unread")
    except EventBusError as error:
        report.add("wrong", "database", str(error))
        return Stored("unread")
    report.numbers["database"] = {
        "url": name_of(engine), "highest_position": highest, "rejected": rejected, "counted": sums,
    }  # fmt: skip
    report.add("ok", "database", f"{name_of(engine)} answers and has this version's schema.")
    _warn_of_own_file(report, backend)
    for rows in rejected:
        report.add(
            "warning", "archive",
            f"{wording.plural(rows.count, 'entry', 'entries')} of {rows.stream} could not be stored; "
            f"the newest: {rows.reason}",
            "Look at the table `rejected`, which keeps what they held; find out who writes to Redis by hand.",
        )  # fmt: skip
    examine_outbox(report, waiting)
    if not sums.agrees:
        report.add(
            "warning", "statistics",
            f"{sums.events + sums.pruned_events:,} events and {sums.deliveries + sums.pruned_deliveries:,} deliveries "
            f"were stored, pruned ones included, and the statistics have {sums.counted_events:,} and "
            f"{sums.counted_deliveries:,}.",
            "Stop archivers and applications of an older version, then run `eventbus stats --recount`.",
        )  # fmt: skip
    return Stored("read", highest)


def absent_file(backend: Backend) -> Path | None:
    """Return the SQLite file that history would go to, if it is not there: opening it would make it."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    settings = backend.settings
    if settings.database_url is None:
        path = Path(settings.home).expanduser().absolute() / "eventbus.db"
        return None if path.exists() else path
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError):
        return None  # opening says what is wrong with it
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return None if Path(url.database).exists() else Path(url.database).absolute()


def _warn_of_own_file(report: Report, backend: Backend) -> None:
    if backend.settings.redis_url and not backend.settings.database_url:
        report.add(
            "warning", "database", "REDIS_URL is set and DATABASE_URL is not: history goes to a file on this machine.",
            "Set DATABASE_URL to the database that the fleet shares.",
        )  # fmt: skip


def _redis(report: Report, backend: Backend, stored: Stored) -> None:
    from events.connection import reachable_name
    from events.errors import EventBusError
    from events.inspection import Inspection

    try:
        inspection = Inspection(backend.namespace)
        server = inspection.server()
        report.numbers["redis"] = {"url": reachable_name(backend.client), "server": server}
        _server(report, server, reachable_name(backend.client))
        _namespace(report, inspection, backend, stored)
    except EventBusError as error:
        report.add("wrong", "redis", str(error))


def _server(report: Report, server: Server, name: str) -> None:
    version = ".".join(map(str, server.version))
    product = {"redis": "Redis", "valkey": "Valkey"}[server.software]
    oldest = OLDEST_VERSION[server.software]
    if server.version < oldest:
        report.add(
            "wrong", "redis", f"{product} {version} at {name} is too old.",
            f"Use {product} {'.'.join(map(str, oldest))} or newer.",
        )  # fmt: skip
    else:
        report.add("ok", "redis", f"{product} {version} at {name} answers.")
    if server.role != "master":
        report.add("wrong", "redis", "It is a replica: nothing can be published.", "Point REDIS_URL at the primary.")
    if server.maxmemory_policy != "noeviction":
        report.add(
            "wrong", "redis",
            f"maxmemory-policy is {server.maxmemory_policy or 'unknown'}: a full server deletes events.",
            "Set `maxmemory-policy noeviction` in its configuration.",
        )  # fmt: skip
    if server.maxmemory and server.used_memory > NEARLY_FULL * server.maxmemory:
        report.add(
            "warning", "redis",
            f"{server.used_memory / server.maxmemory:.0%} of maxmemory ({wording.size(server.maxmemory)}) is used; "
            "when it is full, publishing fails.",
            "Raise maxmemory, or find out below what is not consumed or archived.",
        )  # fmt: skip
    if not server.appendonly:
        report.add(
            "warning", "redis",
            "appendonly is off: a crash of the server loses what was published since its last snapshot.",
            "Set `appendonly yes`.",
        )  # fmt: skip
    elif server.appendfsync == "no":
        report.add(
            "warning", "redis", "appendfsync is no: a power cut can lose half a minute of events.",
            "Set `appendfsync everysec`, or `always`.",
        )  # fmt: skip
    else:
        fsync = f", appendfsync {server.appendfsync}" if server.appendfsync else ""
        report.add("ok", "redis", f"It writes an append-only file{fsync}; maxmemory-policy {server.maxmemory_policy}.")


def _namespace(report: Report, inspection: Inspection, backend: Backend, stored: Stored) -> None:
    from console.roster import worker_object
    from events.dead_letters import DeadLetters
    from events.standing import standings

    name, letters = backend.settings.namespace, DeadLetters(backend.namespace)
    epoch, workers = inspection.epoch(), inspection.workers()
    queues, backlog = inspection.queues(), inspection.backlog()
    said = [worker_object(worker) for worker in workers]
    report.numbers |= {"namespace": name, "epoch": epoch, "workers": said, "queues": queues, "archive": backlog}
    if epoch is None and stored.highest:
        report.add(
            "wrong", "namespace", f"Redis has lost the namespace {name!r}, which the database knows: publishing waits.",
            "Start a worker or an archiver: it declares the subscribers again. `eventbus doctor --repair` does so too, "
            "and delivers again what nobody had finished. What was not archived is lost; nobody can tell what it was.",
        )  # fmt: skip
    elif epoch is None:
        report.add("ok", "namespace", f"The namespace {name!r} is new: nothing was published yet.")
    else:
        report.add("ok", "namespace", f"The namespace {name!r} holds {_routes(queues)}.")
    if queues:
        _workers(report, workers, queues)
    for queue in queues:
        _queue(report, letters, queue, any(worker.is_alive for worker in workers))
    examine_time(report, backend)
    examine_archive(report, backlog, stored)
    if stored.state == "read":
        # Read after Redis was asked: SQL commits first, so a healthy cursor is never behind.
        examine_end(report, backlog, backend.archive.cursor("history").position)
        if epoch is not None:
            compare(report, backend.registry.all(), standings(backend.namespace))
        if stored.highest:
            examine_gaps(report, backend, stored.highest, is_lost=epoch is None)


def _routes(queues: Sequence[Queue]) -> str:
    routed = [queue for queue in queues if queue.types]
    if not routed:
        return "no routes: nothing is subscribed"
    routes = sum(len(queue.types) for queue in routed)
    return f"{wording.plural(routes, 'route')} to {wording.plural(len(routed), 'subscriber')}"


def _workers(report: Report, workers: Sequence[Worker], queues: Sequence[Queue]) -> None:
    alive = [worker for worker in workers if worker.is_alive]
    if alive:
        report.add("ok", "workers", f"{wording.plural(len(alive), 'worker process', 'worker processes')} alive.")
    elif any(queue.types for queue in queues):
        report.add("warning", "workers", "No worker is alive.", "Start `eventbus worker --app ...` or `eventbus dev`.")
    for worker in workers:
        if not worker.is_alive:
            where = f"process {worker.said.pid} on {worker.said.host}" if worker.said.pid else worker.consumer
            report.add(
                "warning", "workers",
                f"The worker {where} has been silent for {wording.duration(worker.silent_s * 1000)}.",
                "It was killed, is stalled, or cannot reach Redis; its deliveries go to others when their lease ends.",
            )  # fmt: skip


def _queue(report: Report, letters: DeadLetters, queue: Queue, has_workers: bool) -> None:
    about = f"subscriber {queue.subscriber}"
    if queue.unsettled:
        says = f"{wording.plural(queue.unsettled, 'delivery', 'deliveries')} not settled: {_parts(queue)}"
        age_s = queue.oldest_s
        oldest = "" if age_s is None else f"; the oldest event is {wording.duration(age_s * 1000)} old"
        is_stuck = (age_s or 0) > STUCK_S and (queue.ready or queue.waiting)
        if queue.is_paused or queue.state == "dropping":
            command = "drop" if queue.state == "dropping" else "resume"
            report.add(
                "warning", about, f"{says}{oldest}; it is {'half dropped' if command == 'drop' else 'paused'}.",
                f"`eventbus subscriptions {command} {queue.subscriber}`.",
            )  # fmt: skip
        elif not has_workers and is_stuck:
            report.add("wrong", about, f"{says}{oldest}, and no worker is alive.", "Start a worker that runs it.")
        elif queue.state == "backfill":
            report.add("ok", about, f"{says}{oldest}; it is being back-filled with history.")
        elif is_stuck and not queue.running:
            report.add(
                "warning", about, f"{says}{oldest}, and nothing of it runs.",
                "Make sure that a worker runs this subscriber; remove its routes if it is not wanted any more.",
            )  # fmt: skip
        else:
            report.add("ok", about, f"{says}{oldest}.")
    if queue.dead:
        newest = letters.newest(queue.subscriber)
        why = f"; the newest, after {wording.plural(newest.attempts, 'attempt')}: {newest.reason}" if newest else ""
        report.add(
            "warning", about, f"{wording.plural(queue.dead, 'dead letter')}{why}",
            f"`eventbus dead list -s {queue.subscriber}` shows them. When the handler is mended, `eventbus dead retry "
            f"-s {queue.subscriber}` delivers them again; `eventbus dead discard` gives up what is not wanted.",
        )  # fmt: skip


def _parts(queue: Queue) -> str:
    more = "+" if queue.is_bounded else ""
    numbers = (
        (queue.running, "running"),
        (queue.ready, "ready"),
        (queue.waiting, f"waiting{more}"),
        (queue.delayed, "to be retried"),
    )
    return ", ".join(f"{count:,} {word}" for count, word in numbers if count)
