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
