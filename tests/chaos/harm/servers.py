"""Harm to Redis itself: paused, killed, full, read-only, failed over, emptied; and entries that nobody can read."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.chaos.losses import lost_by_failing_over, lost_by_flushing
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

if TYPE_CHECKING:
    import redis

    from tests.chaos.stage import Stage

POISON = (b"\xff\xfe", b"not a frame", b"1\t2")


def pause_clients(stage: Stage, rng: random.Random) -> None:
    """CLIENT PAUSE."""
    stage.redis.client_pause(rng.randint(100, 2000))


def flush_scripts(stage: Stage, rng: random.Random) -> None:
    """SCRIPT FLUSH."""
    stage.redis.script_flush()


def kill_valkey(stage: Stage, rng: random.Random) -> None:
    """SIGKILL Valkey, and start it from its AOF."""
    stage.valkey.kill()
    stage.play(rng.uniform(0.1, 1.0))
    stage.valkey.restart()


def freeze_valkey(stage: Stage, rng: random.Random) -> None:
    """SIGSTOP Valkey: connections stay, and nothing is answered. Nobody may ask it anything here."""
    stage.is_frozen = True
    stage.valkey.pause()
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.valkey.resume()
    stage.is_frozen = False


def fill_memory(stage: Stage, rng: random.Random) -> None:
    """Answer writes with OOM."""
    stage.redis.config_set("maxmemory", 1_000_000)
    stage.play(rng.uniform(0.3, 1.5))
    stage.redis.config_set("maxmemory", 0)


def read_only(stage: Stage, rng: random.Random) -> None:
    """Make Valkey a replica of nobody that answers, as in a failover: READONLY."""
    stage.redis.replicaof("127.0.0.1", "1")
    stage.play(rng.uniform(0.3, 1.5))
    stage.redis.replicaof("NO", "ONE")


def poison(stage: Stage, rng: random.Random) -> None:
    """Write entries that nobody can read into a queue."""
    queue = stage.keys("queue", rng.choice(["Painter", "Listener", "Director"]))
    for body in POISON:
        stage.redis.xadd(queue, {"f": body})
        stage.poisoned += 1


def fail_over(stage: Stage, rng: random.Random) -> None:
    """Hand over to a replica that has everything, as `FAILOVER` does: nothing may be lost."""
    with ExitStack() as stack:
        replica = _replica(stage, stack)
        stage.play(rng.uniform(0.1, 0.5))
        stage.redis.client_pause(20_000, all=False)
        stack.callback(stage.redis.client_unpause)
        _until_equal(stage, replica)
        stage.serve_by(_promoted(replica))
        stack.pop_all()


def fail_over_behind(stage: Stage, rng: random.Random) -> None:
    """Fail over to a replica that was cut off a moment before: what the primary has done since is lost.

    Then `doctor --repair`, as an operator would: deliveries of what the store has, and the replica never had.
    """
    with ExitStack() as stack:
        replica = _replica(stage, stack)
        with replica.client() as behind:
            behind.replicaof("NO", "ONE")
            stage.play(rng.uniform(0.1, 1.0))
            stage.proxy.refuse(True)
            stack.callback(stage.proxy.refuse, False)
            stage.proxy.cut()
            loss = lost_by_failing_over(stage, behind)
        stage.lose(loss)
        stage.serve_by(replica)
        stage.proxy.refuse(False)
        stack.pop_all()
    stage.play(rng.uniform(0.2, 1.0))
    stage.repair()


def flush(stage: Stage, rng: random.Random) -> None:
    """FLUSHALL, then `eventbus doctor --repair`."""
    stage.lose(lost_by_flushing(stage))
    stage.play(rng.uniform(0.2, 1.5))
    stage.repair()


def _replica(stage: Stage, stack: ExitStack) -> ValkeyServer:
    """Start a server that has caught up with the primary."""
    replica = stack.enter_context(ValkeyServer(aof=True))
    with replica.client() as client:
        client.replicaof("127.0.0.1", str(stage.valkey.port))
        wait_until(lambda: client.info("replication").get("master_link_status") == "up", 60, "a replica to be in sync")
    return replica


def _until_equal(stage: Stage, replica: ValkeyServer) -> None:
    with replica.client() as client:
        wait_until(lambda: _offset(client, "slave") >= _offset(stage.redis, "master"), 15, "a replica to catch up")


def _offset(client: redis.Redis, kind: str) -> int:
    return int(client.info("replication")[f"{kind}_repl_offset"])


def _promoted(replica: ValkeyServer) -> ValkeyServer:
    with replica.client() as client:
        client.replicaof("NO", "ONE")
    return replica
