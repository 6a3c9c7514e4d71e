"""The stage of a run: servers behind proxies, the cast, a seeded sequence of faults, and the wait for quiet."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from sqlalchemy import Engine, text

from events.bus import EventBus
from events.errors import EventBusError
from events.event import Event
from events.keys import Keys
from events.settings import Settings, variable
from store.engine import open_engine
from tests.chaos import journal, levers, mutations
from tests.chaos.cast import Cast
from tests.chaos.faults import Step, suffer
from tests.chaos.levers import AHEAD, Levers
from tests.chaos.losses import Loss
from tests.chaos.piece import CHAOS, Piece
from tests.chaos.pulse import NOTED_S
from tests.fault_proxy import FaultProxy
from tests.servers import PostgresServer, migrate
from tests.valkey_servers import ValkeyServer

NAMESPACE = "chaos"
READERS = 3
QUIET_WITHIN_S = 90.0
"""Without anything having ended."""
LAST_S = 400.0
CURTAIN_S = 300.0
SEEN_QUIET = 3
REPAIR_S = PUBLISH_S = 60.0
REPAIRS = 3
TICK_S = 0.1
WAITING = """
    SELECT count(*) FROM deliveries JOIN events ON events.position = event_position
    WHERE deliveries.state = 'waiting'"""
FORGOTTEN = "deliveries wait in the store, and nothing does in Redis"
ALL_CODE = 3
"""The release that a run comes home to."""


@dataclass(frozen=True)
class Suffered:
    """A fault: which step of the script, its kind, from when to when, monotonic seconds; whether it was done at all."""

    number: int
    name: str
    began: float
    ended: float
    is_done: bool = True


@dataclass
class Stage:
    """What faults and the checker work on.

    Attributes:
        redis, engine: straight to the servers, not by way of the proxies. piece: what is played.
        sql_proxy: before PostgreSQL.
        patience: how many times as long as usual it waits for quiet. workers: processes of the fleet.
        poisoned: entries written by hand into queues that Redis still has. deadly: ids of events that kill.
        probes: ids of events that are published at rest, to see who works. silent: sentences about those who do not.
        losses: what Redis was allowed to forget. repairs: runs of `doctor --repair`.
        known_since: of subscriptions of releases, the position from which on they have every event.
        held_up: when, and for how many seconds, this process itself was kept from running; others may have been, too.
        is_frozen: whether Redis does not answer, so that nobody asks it.
        meanwhile: a fault that is to come while another lasts.
        quiet_after_s: how long it took after healing until nothing was left to do; None: it did not come to that.
    """

    folder: Path
    seed: int
    settings: Settings
    valkey: ValkeyServer
    proxy: FaultProxy
    cast: Cast
    levers: Levers
    engine: Engine
    redis: redis.Redis
    piece: Piece = CHAOS
    postgres: PostgresServer | None = None
    sql_proxy: FaultProxy | None = None
    patience: float = 1.0
    workers: int = 2
    poisoned: int = 0
    deadly: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    repairs: int = 0
    probes: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    known_since: dict[tuple[str, str], int] = field(default_factory=dict)
    held_up: list[tuple[float, float]] = field(default_factory=list)
    suffered: list[Suffered] = field(default_factory=list)
    is_frozen: bool = False
    meanwhile: Step | None = None
    quiet_after_s: float | None = None
    left: str = ""

    @property
    def keys(self) -> Keys:
        return Keys(NAMESPACE)

    @property
    def lease_s(self) -> float:
        return self.settings.lease_s

    def play(self, seconds: float) -> None:
        """Let things go on for a while; a fault that is to come meanwhile comes now."""
        if self.meanwhile is not None:
            step, self.meanwhile = self.meanwhile, None
            self._suffer_one(step)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.cast.tend()
            self._look_for_routes()
            asleep = time.monotonic()
            time.sleep(min(left, TICK_S))
            if (late_s := time.monotonic() - asleep - TICK_S) > NOTED_S:
                self.held_up.append((time.monotonic(), late_s))

    def wait_for_curtain(self) -> None:
        """Wait until all worker processes and the application have read, and something is published."""
        until = time.monotonic() + CURTAIN_S * max(1.0, self.patience)
        while time.monotonic() < until and not (
            self.redis.zcard(self.keys("workers")) >= READERS and self.redis.exists(self.keys("history"))
        ):
            self.play(TICK_S)

    def suffer(self, step: Step) -> None:
        """Do a fault, and the one beside it while it lasts; note both."""
        self.meanwhile = step.beside
        self._suffer_one(step)
        if step.beside is not None and self.meanwhile is not None:
            self.meanwhile = None
            self._suffer_one(step.beside)

    def _suffer_one(self, step: Step) -> None:
        began = time.monotonic()
        is_done = suffer(self, step)
        self.suffered.append(Suffered(step.number, step.name, began, time.monotonic(), is_done))

    def heal(self) -> None:
        """Undo every fault: all links flow, all servers answer, all processes run, and run everything."""
        self.proxy.drop_replies(0)
        self.proxy.tear_requests(0)
        self.proxy.delay(0.0)
        self.proxy.stall(False)
        self.proxy.refuse(False)
        if self.sql_proxy is not None:
            self.sql_proxy.stall(False)
        if not self.valkey.alive():
            self.valkey.restart()
        self.redis.client_unpause()
        self.redis.config_set("maxmemory", 0)
        self.redis.replicaof("NO", "ONE")
        self.redis.delete(f"{self.keys.prefix}{AHEAD}")
        had_releases = any(one.name == "release" for one in self.suffered)
        self.levers.pull(ahead_s=0.0, is_disk_full=False, **({"release": ALL_CODE} if had_releases else {}))
        self.signal(signal.SIGCONT, "worker", "fleet", "archiver", "application", "publisher")
        if had_releases:
            self.signal(signal.SIGHUP, "fleet")
            self.signal(signal.SIGTERM, "application")

    def signal(self, number: signal.Signals, *kinds: str) -> None:
        """Send a signal to every process of some kinds."""
        for kind in kinds:
            for pid in self.cast.pids(kind):
                self.cast.signal(pid, number)

    def serve_by(self, server: ValkeyServer) -> None:
        """Let another server take the place of the one behind the proxy, which is ended."""
        former, self.valkey = self.valkey, server
        self.redis.close()
        self.redis = server.client()
        self.proxy.target = ("127.0.0.1", server.port)
        self.proxy.cut()
        former.kill()
        former.stop()

    def lose(self, loss: Loss) -> None:
        """Allow for what Redis has just forgotten."""
        self.losses.append(loss)
        self.poisoned = 0

    def repair(self) -> None:
        """Run `eventbus doctor --repair` to its end; what it says is in its log."""
        self.repairs += 1
        process = self.cast.start(self.cast.eventbus("doctor", "--repair", "--yes"), "doctor.log")
        until = time.monotonic() + REPAIR_S * self.patience
        while process.poll() is None and time.monotonic() < until:
            self.play(TICK_S)
        if process.poll() is None:
            process.kill()
        process.wait()

    def publish(self, *events: Event) -> bool:
        """Publish events of the driver's own; return whether all were acknowledged."""
        until = time.monotonic() + PUBLISH_S * self.patience
        with contextlib.closing(EventBus(self.settings)) as bus:
            while time.monotonic() < until:
                try:
                    if not any(isinstance(answer, Exception) for answer in bus.publish_many_sync(list(events))):
                        return True
                except EventBusError:
                    self.play(TICK_S)
        return False

    def wait_quiet(self, times: float = 1.0) -> bool:
        """Wait until nothing is left to do, several looks in a row; longer, as long as anything ends meanwhile.

        Args:
            times: how many times as long as this stage's patience is.

        Returns:
            Whether it came to that.
        """
        began = moved = time.monotonic()
        seen, repaired, last = 0, 0, ""
        self.quiet_after_s = None
        patience = self.patience * times
        while time.monotonic() - moved < QUIET_WITHIN_S * patience and time.monotonic() - began < LAST_S * times:
            self.left = self.unfinished()
            seen = 0 if self.left else seen + 1
            if seen == SEEN_QUIET:
                self.quiet_after_s = time.monotonic() - began
                return True
            if self.left == FORGOTTEN and self.losses and repaired < REPAIRS:
                self.repair()
                repaired += 1
            if self.left != last:
                moved, last = time.monotonic(), self.left
            self.play(0.3)
        return False

    def _look_for_routes(self) -> None:
        if self.is_frozen:
            return
        with contextlib.suppress(redis.RedisError):
            for route in set(self.piece.of_releases) - self.known_since.keys():
                if self.redis.sismember(self.keys("routes", route[1]), route[0]):
                    self.known_since[route] = int(self.redis.get(self.keys("clock")) or 0)

    def unfinished(self) -> str:
        """Say what is still to be done; empty when nothing is."""
        publisher = self.cast.roles["publisher"].process
        if publisher is not None and publisher.poll() is None:
            return "the publisher publishes"
        with self.engine.connect() as connection:
            waiting = connection.execute(text("SELECT count(*) FROM outbox WHERE state = 'pending'")).scalar()
        if waiting:
            return f"{waiting} events are in the outbox"
        if scheduled := self.redis.zcard(self.keys("scheduled")):
            return f"{scheduled} events are scheduled"
        if waiting := next(filter(None, map(self.waiting_in_redis, self.piece.agents)), ""):
            return waiting
        newest = self.redis.xrevrange(self.keys("history"), count=1)
        archived = int(self.redis.get(self.keys("archived")) or 0)
        if newest and int(newest[0][0].split(b"-")[0]) > archived:
            return "events are not archived"
        if outcomes := self.redis.xlen(self.keys("outcomes")):
            return f"{outcomes} outcomes are not archived"
        with self.engine.connect() as connection:
            waiting = connection.execute(text(WAITING)).scalar()
        return FORGOTTEN if waiting else ""

    def waiting_in_redis(self, name: str) -> str:
        """Say what Redis has of an agent's deliveries, in one look; empty when it has none."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.xlen(self.keys("queue", name))
            for kind in ("delayed", "lanes", "joins"):
                pipe.zcard(self.keys(kind, name))
            queue, delayed, lanes, joins = pipe.execute()
        if not (queue or delayed or lanes or joins):
            return ""
        return f"{name} has {queue} deliveries in its window, {delayed} delayed, {lanes} lanes, {joins} joins"


@contextmanager
def stage(
    folder: Path,
    seed: int,
    *,
    database: str,
    piece: Piece = CHAOS,
    mutation: str = "",
    patience: float = 1.0,
    workers: int = 2,
) -> Iterator[Stage]:
    """Build a stage and raise the curtain; end everything afterwards.

    Args:
        database: `sqlite` or `postgres`. piece, patience: see `Stage`.
    """
    (folder / "journal").mkdir(parents=True)
    with ExitStack() as stack:
        postgres, url = _database(folder, database, stack)
        engine = open_engine(url, timeout_s=30.0)
        stack.callback(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text(piece.tables))
        valkey = stack.enter_context(ValkeyServer(aof=True))
        proxy = stack.enter_context(FaultProxy("127.0.0.1", valkey.port))
        redis_url = proxy.url if piece.is_proxied else valkey.url
        sql_proxy, url = _proxied(postgres, url, stack) if piece.is_proxied else (None, url)
        settings = Settings(
            redis_url=redis_url, database_url=url, namespace=NAMESPACE, home=str(folder), **piece.settings
        )
        hand = Levers(folder / "levers")
        environment = _environment(folder, settings, mutation)
        cast = Cast(folder, environment, piece.app, lambda: piece.publisher(folder, seed))
        now = Stage(
            folder, seed, settings, valkey, proxy, cast, hand, engine, valkey.client(), piece, postgres, sql_proxy,
            patience, workers,
        )  # fmt: skip
        stack.callback(lambda: (now.redis.close(), now.valkey.stop()))
        stack.callback(cast.drop_curtain)
        cast.raise_curtain(workers)
        yield now


def _database(folder: Path, kind: str, stack: ExitStack) -> tuple[PostgresServer | None, str]:
    postgres, url = None, f"sqlite:///{folder / 'store.db'}"
    if kind == "postgres":
        postgres = PostgresServer().start()
        stack.callback(postgres.stop)
        url = postgres.create_database()
    migrate(url)
    return postgres, url


def _proxied(postgres: PostgresServer | None, url: str, stack: ExitStack) -> tuple[FaultProxy | None, str]:
    if postgres is None:
        return None, url
    proxy = stack.enter_context(FaultProxy("127.0.0.1", postgres.port))
    return proxy, url.replace(f":{postgres.port}/", f":{proxy.port}/")


def _environment(folder: Path, settings: Settings, mutation: str) -> dict[str, str]:
    fields = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return {
        **os.environ,
        **{variable(name): str(value) for name, value in fields.items() if value is not None},
        journal.VARIABLE: str(folder / "journal"),
        levers.VARIABLE: str(folder / "levers"),
        mutations.VARIABLE: mutation,
    }
