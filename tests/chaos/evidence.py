"""What a run has left behind, read once: journals, tables, and what Redis was allowed to forget."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from sqlalchemy import text

from tests.chaos.journal import read
from tests.chaos.losses import Lost
from tests.chaos.plan import Brief, briefs
from tests.chaos.remains import places
from tests.chaos.stage import NAMESPACE, Stage
from tests.chaos.unfinished import unfinished

Row = dict[str, Any]
BLAME = "It killed its worker three times"
MOST_DEATHS = 3
USED_UP = re.compile(r"Not started again: max_attempts=(\d+) are used up")
UNREADABLE = "SELECT subscriber, raw, reason FROM dead_letters WHERE namespace = :n AND raw <> ''"
REJECTED = "SELECT entry_id FROM rejected WHERE namespace = :n AND stream = 'history'"


class Evidence:
    """Of one stage at rest.

    Attributes:
        journal: lines of all processes, by time; lines_of: of one, by its pid.
        ahead_of_monotonic_s: the time of day less the monotonic one, in which journals and faults are told.
        acknowledged: those of acknowledged briefs, by id.
        events, outcomes, deliveries, effects: rows of the store and of the application; the first two by position.
        letters: dead ones of what nobody could read.
        rejected: positions of what was set aside. places: ids and positions of what Redis has.
        unfinished: what was on its way. state: of deliveries, by their event's position and their subscriber.
        of: events by id. caused: events by the id of their cause.
        lost: what may be lost and is not in the store, by id.
        blamed: deliveries, by their event's position and their subscriber, that ended as dead letters because workers
            died while they ran, whoever killed them: three, or one at the last attempt.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        begun = unfinished(stage)
        self.journal = list(read(stage.cast.journal))
        self.ahead_of_monotonic_s = time.time() - time.monotonic()
        self.lines_of: dict[int, list[Row]] = defaultdict(list)
        for line in self.journal:
            self.lines_of[line["pid"]].append(line)
        self.acknowledged = {line["event"]: line for line in self.journal if line["word"] == "acknowledged"}
        self.events = self.rows("SELECT * FROM events WHERE namespace = :n ORDER BY position")
        self.deliveries = self.rows("SELECT * FROM deliveries WHERE namespace = :n")
        self.outcomes = self.rows("SELECT * FROM outcomes WHERE namespace = :n ORDER BY position")
        self.effects = self.rows("SELECT * FROM chaos_effects")
        self.rejected = {int(row["entry_id"].split("-")[0]) for row in self.rows(REJECTED)}
        self.letters = self.rows(UNREADABLE)
        self.places = list(places(stage))
        self.unfinished = begun | unfinished(stage)
        self.state = {(one["event_position"], one["subscriber"]): one["state"] for one in self.deliveries}
        self.of = {event["event_id"]: event for event in self.events}
        self.stored = Counter(event["event_id"] for event in self.events)
        self.caused: dict[str, list[Row]] = defaultdict(list)
        for event in self.events:
            self.caused[event["causation_id"]].append(event)
        self.lost = {
            one.event_id: one
            for loss in stage.losses
            for one in loss.events.values()
            if one.event_id not in self.stored
        }
        self.blamed = given_up_for_deaths(self.outcomes, forgetful=bool(stage.losses))
        self._lost_of: dict[str | None, list[Lost]] = defaultdict(list)
        for one in self.lost.values():
            self._lost_of[one.cause].append(one)

    def briefs(self) -> Iterator[Brief]:
        """Iterate over the plan, as far as it may have been published."""
        most = max((line["number"] for line in self.acknowledged.values()), default=-1) + 100
        return islice(briefs(self.stage.seed), most)

    @property
    def held_up_s(self) -> float:
        """The longest that the driver, or a process of the application, was kept from running."""
        felt = [float(line["seconds"]) for line in self.journal if line["word"] == "held up"]
        return max([0.0, *felt, *(seconds for _, seconds in self.stage.held_up)])

    def lost_of(self, cause: str, kind: str) -> int:
        """How many events of a type, caused by an event, were lost as they may be."""
        return sum(one.type == kind for one in self._lost_of[cause])

    def may_be_forgotten(self, position: int) -> bool:
        """Whether Redis may have forgotten an end, by its outcome's position, though the store has it."""
        return any(loss.forgot_end(position) for loss in self.stage.losses)

    def may_be_overtaken(self, position: int, by: int) -> bool:
        """Whether what was at a position may have been put back after something later was published."""
        return any(position <= loss.clock < by for loss in self.stage.losses)

    def may_end(self, event: Row, subscriber: str) -> bool:
        """Whether a delivery has not ended, and may yet: a run that was cut off says nothing of it."""
        state = self.state.get((event["position"], subscriber))
        return state in (None, "waiting") and self.unfinished.may_end(subscriber)

    def may_lack(self, event: Row | None, subscriber: str) -> bool:
        """Whether what a subscriber causes of an event may not be in the store: it has not ended, or not been archived.

        That it has not ended is told where endings are looked at.
        """
        done = event is not None and self.state.get((event["position"], subscriber)) == "done"
        return not done or bool(self.unfinished.events)

    def is_blamed(self, event: Row | None, subscriber: str) -> bool:
        """Whether a subscriber has given an event up because workers died of it, or beside it.

        Nobody has given up what is not in the store.
        """
        return event is not None and (event["position"], subscriber) in self.blamed

    def rows(self, sql: str) -> list[Row]:
        """Return rows of the namespace, `:n`."""
        with self.stage.engine.connect() as connection:
            found = connection.execute(text(sql), {"n": NAMESPACE} if ":n" in sql else {})
            return [dict(row) for row in found.mappings()]


def given_up_for_deaths(outcomes: list[Row], *, forgetful: bool = False) -> set[tuple[int, str]]:
    """Return the deliveries whose outcomes, in order, say that workers died of them until no attempt was left.

    Args:
        forgetful: Redis has forgotten attempts, which the store has, and counted from the first again.
    """
    before: dict[tuple[int, str, int], list[str]] = defaultdict(list)
    found = set()
    for outcome in outcomes:
        delivery = (outcome["event_position"], outcome["subscriber"], outcome["redelivery"])
        if outcome["state"] == "dead" and _says_of_deaths(outcome["error"], before[delivery], forgetful):
            found.add(delivery[:2])
        before[delivery].append(outcome["state"])
    return found


def _says_of_deaths(reason: str, before: list[str], forgetful: bool) -> bool:
    """Whether a dead letter's reason is that workers died, and the states that came before it say so too."""
    if reason.startswith(BLAME):
        return before.count("lost") >= MOST_DEATHS
    used_up = USED_UP.match(reason)
    if not used_up or before[-1:] != ["lost"]:
        return False
    counted = before.count("lost") + before.count("retried")
    return counted == int(used_up[1]) or (forgetful and counted > int(used_up[1]))
