"""The stage of a run: servers behind proxies, the cast, a seeded sequence of faults, and the wait for quiet."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from sqlalchemy import Engine, text

from events.keys import Keys
from events.settings import Settings, variable
from store.engine import open_engine
from tests.chaos import journal, mutations
from tests.chaos.app import EFFECTS
from tests.chaos.cast import Cast
from tests.chaos.faults import choose, suffer
from tests.fault_proxy import FaultProxy
from tests.servers import PostgresServer, migrate
from tests.valkey_servers import ValkeyServer

NAMESPACE = "chaos"
AGENTS = ("Director", "Painter", "Keeper", "Biller", "Doomed", "Editor", "Listener")
QUIET_WITHIN_S = 90.0
SEEN_QUIET = 3


@dataclass
class Stage:
    """What faults and the checker work on.

    Attributes:
        redis, engine: straight to the servers, not by way of the proxy.
        poisoned: entries written by hand into queues. suffered: faults by name.
        quiet_after_s: how long it took after healing until nothing was left to do; None: it did not come to that.
    """

    folder: Path
    seed: int
    settings: Settings
    valkey: ValkeyServer
    proxy: FaultProxy
    cast: Cast
    engine: Engine
    redis: redis.Redis
    postgres: PostgresServer | None = None
    poisoned: int = 0
    suffered: Counter[str] = field(default_factory=Counter)
    quiet_after_s: float | None = None
    left: str = ""

    @property
    def keys(self) -> Keys:
        return Keys(NAMESPACE)

    @property
    def lease_s(self) -> float:
        return self.settings.lease_s

    def play(self, seconds: float) -> None:
        """Let things go on for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.cast.tend()
            time.sleep(min(left, 0.1))

    def torment(self, seconds: float, only: list[str]) -> None:
        """Do seeded faults for so long, with moments of peace between them."""
        rng, until = random.Random(self.seed * 7919 + 1), time.monotonic() + seconds
        while time.monotonic() < until:
            name = choose(rng, only)
            suffer(self, name, rng)
            self.suffered[name] += 1
            self.play(rng.uniform(0.1, 1.5))

    def heal(self) -> None:
        """Undo every fault: all links flow, all servers answer, all processes run."""
        self.proxy.drop_replies(0)
        self.proxy.stall(False)
        self.proxy.refuse(False)
        self.redis.config_set("maxmemory", 0)
        self.redis.replicaof("NO", "ONE")
        for kind in ("worker", "fleet", "archiver", "application", "publisher"):
            for pid in self.cast.pids(kind):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def wait_quiet(self) -> None:
        """Wait until nothing is left to do, several looks in a row."""
        began, seen = time.monotonic(), 0
        while time.monotonic() - began < QUIET_WITHIN_S:
            self.left = self.unfinished()
            seen = 0 if self.left else seen + 1
            if seen == SEEN_QUIET:
                self.quiet_after_s = time.monotonic() - began
                return
            self.play(0.3)

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
        for name in AGENTS:
            queue, delayed, lanes, joins = (
                self.redis.xlen(self.keys("queue", name)),
                self.redis.zcard(self.keys("delayed", name)),
                self.redis.zcard(self.keys("lanes", name)),
                self.redis.zcard(self.keys("joins", name)),
            )
            if queue or delayed or lanes or joins:
                return f"{name} has {queue} deliveries in its window, {delayed} delayed, {lanes} lanes, {joins} joins"
        newest = self.redis.xrevrange(self.keys("history"), count=1)
        archived = int(self.redis.get(self.keys("archived")) or 0)
        if newest and int(newest[0][0].split(b"-")[0]) > archived:
            return "events are not archived"
        if outcomes := self.redis.xlen(self.keys("outcomes")):
            return f"{outcomes} outcomes are not archived"
        return ""


@contextmanager
def stage(
    folder: Path, seed: int, *, database: str, mutation: str = "", workers: int = 2, per_second: float = 60.0
) -> Iterator[Stage]:
    """Build a stage and raise the curtain; end everything afterwards.

    Args:
        database: `sqlite` or `postgres`.
    """
    (folder / "journal").mkdir(parents=True)
    with ExitStack() as stack:
        postgres = None
        if database == "postgres":
            postgres = PostgresServer().start()
            stack.callback(postgres.stop)
            url = postgres.create_database()
        else:
            url = f"sqlite:///{folder / 'store.db'}"
        migrate(url)
        valkey = stack.enter_context(ValkeyServer(aof=True))
        proxy = stack.enter_context(FaultProxy("127.0.0.1", valkey.port))
        settings = Settings(
            redis_url=proxy.url, database_url=url, namespace=NAMESPACE, home=str(folder), lease_s=2.0, timeout_s=3.0,
            history_margin_s=0.0,
        )  # fmt: skip
        given = {variable(name): str(value) for name, value in vars_of(settings).items() if value is not None}
        environment = {**os.environ, **given, journal.VARIABLE: str(folder / "journal"), mutations.VARIABLE: mutation}
        engine = open_engine(url, timeout_s=30.0)
        stack.callback(engine.dispose)
        with engine.begin() as connection:
            connection.execute(text(EFFECTS))
        client = stack.enter_context(valkey.client())
        cast = Cast(folder, environment, seed, per_second)
        stack.callback(cast.drop_curtain)
        cast.raise_curtain(workers)
        yield Stage(folder, seed, settings, valkey, proxy, cast, engine, client, postgres)


def vars_of(settings: Settings) -> dict[str, object]:
    """Return a settings' fields."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}
