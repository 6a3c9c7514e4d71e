"""Joins: an agent that waits for all events of some types that one event set off.

Their number need not be known: a join ends when nothing of what the event set off is under way any
more, which the scripts count (`events/lua/library.lua`, joins), or when its time is over.

    PROJECT_CREATED ──> SHOT_PLANNED, SHOT_PLANNED ──> IMAGE_GENERATED, IMAGE_GENERATED
          │                                                        │
          └── the join's delivery waits ──nothing is under way─────┴──> handler(event, joined)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from events.errors import InvalidSubscription
from events.event import Event
from events.types import is_well_formed

MAX_TIMEOUT_S = 365 * 86_400.0
Why = Literal["complete", "dead", "timeout", "lost"]


@dataclass(frozen=True, slots=True)
class Join:
    """What a joining subscriber waits for.

    Attributes:
        of: names of the event types that are kept for it, one at least.
        timeout: seconds after the event until it goes with what there is.
        partial: when something of what was set off became a dead letter, or the time was over: `run`
            hands over what there is, `dead` makes a dead letter; retried, that runs with what there
            is then.
    """

    of: tuple[str, ...]
    timeout: float = 86_400.0
    partial: str = "run"

    def __post_init__(self) -> None:
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float):
            raise InvalidSubscription(f"A join's timeout must be seconds, not {self.timeout!r}.")
        if not 0 < self.timeout <= MAX_TIMEOUT_S:
            raise InvalidSubscription(f"A join's timeout must be seconds up to a year, not {self.timeout!r}.")
        if self.partial not in ("run", "dead"):
            raise InvalidSubscription(f"A join's partial must be 'run' or 'dead', not {self.partial!r}.")
        object.__setattr__(self, "of", _names(self.of))

    def record(self) -> dict[str, str]:
        """Return the fields that scripts need."""
        return {"join_of": "\t".join(self.of), "join_timeout": str(int(self.timeout * 1e6))}


def _names(of: object) -> tuple[str, ...]:
    """Return the types' names, without repeats."""
    if isinstance(of, str) or not isinstance(of, Iterable):
        raise InvalidSubscription(f"A join waits for a list of event types, not {of!r:.80}.")
    names = tuple(dict.fromkeys(str(getattr(kind, "value", kind)) for kind in of))
    wrong = next((name for name in names if not is_well_formed(name)), None)
    if wrong is not None or not names:
        shown = "nothing" if wrong is None else repr(wrong[:100])
        raise InvalidSubscription(f"A join waits for events of named types, one at least; {shown} cannot be one.")
    return names


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join has seen when it goes.

    Attributes:
        events: of the types it waits for, in history order.
        why: `complete` when everything that was set off has ended well; `dead` when some of it became dead
            letters, or was more than a join keeps; `timeout`; `lost` when Redis had lost the join.
        dead: deliveries that became dead letters.
        left_out: events beyond the 10,000, or the 32 MB, that a join keeps, and those that cannot be read.
    """

    events: tuple[Event, ...]
    why: Why
    dead: int = 0
    left_out: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.why == "complete"

    @property
    def lack(self) -> str:
        """What is missing, in words; empty when nothing is."""
        if self.why == "timeout":
            return f"its time was over, with {len(self.events)} events there"
        if self.why == "lost":
            return "Redis had lost what it had seen"
        dead = "1 delivery" if self.dead == 1 else f"{self.dead} deliveries"
        parts = [f"{dead} of what was set off ended dead"] if self.dead else []
        parts += [f"{self.left_out} events were more than it keeps, or cannot be read"] if self.left_out else []
        return " and ".join(parts)
