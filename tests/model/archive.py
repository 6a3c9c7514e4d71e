"""The archivers' model: two that share one SQL, may crash or stall between commit and script, and take over.

SQL is two lists with a cursor each. A commit is exactly once because it moves the cursor in the same
step; the script that follows may come late, twice or never, and must lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from events.namespace import Namespace
from tests.model.oracle import demand
from tests.model.snapshot import Observer

EXPIRY_MS = 86_400_000


@dataclass
class Archive:
    """SQL, and the calls that archivers still owe to Redis."""

    namespace: Namespace
    observer: Observer
    events: list[tuple[int, str]] = field(default_factory=list)
    outcomes: list[int] = field(default_factory=list)
    owed: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    archived: int = 0
    trimmed: dict[str, int] = field(default_factory=lambda: {"history": 0, "outcomes": 0})

    def step(self, who: str, limit: int, margin: int, then: str) -> None:
        """Copy one batch of history; `then` is the script: `called`, `owed` (called late) or `never`."""
        cursor = self.events[-1][0] if self.events else 0
        archived, entries = self.namespace.call("tail", cursor, limit)
        self._catch_up(int(archived), cursor)
        demand(int(archived) <= cursor, f"Redis says {int(archived)} is archived, SQL has {cursor}")
        new = [(_position(entry), self._id_at(_position(entry))) for entry, _ in entries]
        self.events += new
        if new:
            self._then(who, then, ("history", new[-1][0], self._trim(margin), [id_ for _, id_ in new]))

    def step_outcomes(self, who: str, limit: int, then: str) -> None:
        """Copy one batch of outcomes."""
        after = self.outcomes[-1] + 1 if self.outcomes else 0
        client, keys = self.namespace.client, self.namespace.keys
        entries: Any = client.xrange(keys("outcomes"), after, "+", count=limit)
        self.outcomes += [_position(entry) for entry, _ in entries]
        if entries:
            self._then(who, then, ("outcomes", self.outcomes[-1], self.outcomes[-1] + 1, []))

    def late(self, who: str) -> None:
        """Make the calls that were owed, in their order."""
        for call in self.owed.pop(who, []):
            self._call(*call)

    def look(self, since: int) -> None:
        """Read as a reader does that has everything up to some position: `tail` agrees with the model."""
        position = self.events[since % len(self.events)][0] if self.events else 0
        archived, entries = self.namespace.call("tail", position, 1000)
        demand(int(archived) == self.archived, f"archived is {int(archived)}, the model says {self.archived}")
        if int(archived) <= position:
            wanted = [p for p in self.observer.positions if p > position]
            found = [_position(entry) for entry, _ in entries]
            demand(found == wanted, f"tail after {position} has {found}, the model says {wanted}")

    def check(self) -> None:
        """SQL is a beginning of history; Redis has all the rest, and has trimmed as far as it was told."""
        ours = [position for position, _ in self.events]
        demand(ours == self.observer.positions[: len(ours)], "SQL is not the beginning of history: a gap or a repeat")
        outcomes = [position for position, _ in self.observer.outcomes]
        demand(self.outcomes == outcomes[: len(self.outcomes)], "SQL's outcomes have a gap or a repeat")
        demand(self.observer.archived == self.archived, f"archived is {self.observer.archived}, not {self.archived}")
        for length, all_, name in (
            (self.observer.history_length, self.observer.positions, "history"),
            (self.observer.outcomes_length, outcomes, "outcomes"),
        ):
            wanted = sum(1 for position in all_ if position >= self.trimmed[name])
            demand(length == wanted, f"{name} has {length} entries, the model says {wanted}")

    def finish(self) -> None:
        """Archive all there is, and check that ids expire."""
        self.owed.clear()
        before = -1
        while before < len(self.events) + len(self.outcomes):
            before = len(self.events) + len(self.outcomes)
            self.step("last", 500, 0, "called")
            self.step_outcomes("last", 500, "called")
            self.observer.look()
            self.check()
        demand(len(self.events) == len(self.observer.positions), "the archive is not complete")
        pipe = self.namespace.client.pipeline(transaction=False)
        for _, event_id in self.events:
            pipe.pttl(self.namespace.keys("id", event_id))
        for (_, event_id), ttl in zip(self.events, pipe.execute(), strict=True):
            demand(ttl > 0, f"the id of {event_id} never expires")

    def _catch_up(self, archived: int, cursor: int) -> None:
        """Whoever finds Redis behind SQL repeats the call that a crashed archiver never made."""
        if archived < cursor:
            ids = [event_id for position, event_id in self.events if position > archived]
            self._call("history", cursor, 0, ids)
            archived_now, _ = self.namespace.call("tail", cursor, 1)
            demand(int(archived_now) == cursor, f"archived is {int(archived_now)} after {cursor} was noted")

    def _then(self, who: str, then: str, call: tuple[Any, ...]) -> None:
        if then == "called":
            self._call(*call)
        elif then == "owed":
            self.owed.setdefault(who, []).append(call)

    def _call(self, stream: str, position: int, trim: int, ids: list[str]) -> None:
        self.namespace.call("archived", stream, position, trim, EXPIRY_MS, *ids)
        self.trimmed[stream] = max(self.trimmed[stream], min(trim, position + 1))
        if stream == "history":
            self.archived = max(self.archived, position)

    def _trim(self, margin: int) -> int:
        """Keep the last `margin` archived events in Redis."""
        return self.events[-1][0] + 1 if margin == 0 else self.events[-min(margin, len(self.events))][0]

    def _id_at(self, position: int) -> str:
        for fact in reversed(self.observer.oracle.expected_facts):
            if fact.position == position:
                return fact.spec.id
        return ""


def _position(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])
