"""What was still on its way when a run was judged: nobody can tell yet what comes of it.

A run at rest has nothing of this. One that was cut off is judged by the rest alone: by what ended wrongly, and by what
waits in the store while Redis has nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.chaos.losses import in_history

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

IN_OUTBOX = "SELECT event_id FROM outbox WHERE state = 'pending'"


@dataclass(frozen=True)
class Unfinished:
    """Of one stage.

    Attributes:
        events: ids of those that are published or committed, and not archived. agents: who has deliveries in Redis.
        has_outcomes: whether ends are not archived.
    """

    events: frozenset[str] = field(default_factory=frozenset)
    agents: frozenset[str] = field(default_factory=frozenset)
    has_outcomes: bool = False

    def __or__(self, later: Unfinished) -> Unfinished:
        """What was on its way at one of two looks."""
        return Unfinished(
            self.events | later.events, self.agents | later.agents, self.has_outcomes or later.has_outcomes
        )

    def may_end(self, agent: str) -> bool:
        """Whether a delivery of an agent that waits in the store may end yet."""
        return self.has_outcomes or agent in self.agents


def unfinished(stage: Stage) -> Unfinished:
    """Return what is on its way; nothing, when all has come to rest."""
    if stage.quiet_after_s is not None:
        return Unfinished()
    agents = [name for name in stage.piece.agents if stage.waiting_in_redis(name)]
    return Unfinished(frozenset(_events(stage)), frozenset(agents), bool(stage.redis.xlen(stage.keys("outcomes"))))


def _events(stage: Stage) -> list[str]:
    scheduled = [event_id.decode() for event_id in stage.redis.zrange(stage.keys("scheduled"), 0, -1)]
    with stage.engine.connect() as connection:
        in_outbox = [row[0] for row in connection.execute(text(IN_OUTBOX))]
    archived = int(stage.redis.get(stage.keys("archived")) or 0)
    history = in_history(stage.redis.xrange(stage.keys("history"), min=f"({archived}-0"))
    return scheduled + in_outbox + [recorded.event.event_id for recorded in history]
