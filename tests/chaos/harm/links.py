"""Harm to the links between processes and Redis: cut, stalled, refused, answers lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.chaos.harm import Spared

if TYPE_CHECKING:
    from tests.chaos.stage import Stage


def drop_replies(stage: Stage, rng: random.Random) -> None:
    """Lose replies of commands that ran."""
    before = stage.proxy.dropped
    stage.proxy.drop_replies(rng.randint(1, 20), matching=rng.choice([b"", b"EVALSHA", b"XREADGROUP"]))
    stage.play(rng.uniform(0.2, 1.0))
    stage.proxy.drop_replies(0)
    if stage.proxy.dropped == before:
        raise Spared("Nobody asked for anything whose answer was to be lost.")


def tear(stage: Stage, rng: random.Random) -> None:
    """Cut connections in the middle of a request: half of it arrives, and is not run."""
    before = stage.proxy.torn
    stage.proxy.tear_requests(rng.randint(1, 20))
    stage.play(rng.uniform(0.2, 1.0))
    stage.proxy.tear_requests(0)
    if stage.proxy.torn == before:
        raise Spared("Nobody asked for anything meanwhile.")


def slow(stage: Stage, rng: random.Random) -> None:
    """Let every request and every reply take its time."""
    stage.proxy.delay(rng.uniform(0.005, 0.1))
    stage.play(rng.uniform(0.5, 3.0))
    stage.proxy.delay(0.0)


def cut(stage: Stage, rng: random.Random) -> None:
    """Cut every connection to Redis."""
    stage.proxy.cut()


def stall(stage: Stage, rng: random.Random) -> None:
    """Hold back all bytes to and from Redis."""
    stage.proxy.stall(True)
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.proxy.stall(False)


def refuse(stage: Stage, rng: random.Random) -> None:
    """Cut and refuse connections to Redis."""
    stage.proxy.refuse(True)
    stage.proxy.cut()
    stage.play(rng.uniform(0.2, stage.lease_s * 1.5))
    stage.proxy.refuse(False)


def kill_clients(stage: Stage, rng: random.Random) -> None:
    """CLIENT KILL of every normal client."""
    if not stage.redis.client_kill_filter(_type="normal", skipme=True):
        raise Spared("Nobody was connected.")
