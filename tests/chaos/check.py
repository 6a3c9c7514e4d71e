"""The checker: what holds when a run has come to rest, and each thing that does not, as a sentence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

from sqlalchemy import text

from store.recount import recount
from store.tables import delivery_statistics, event_statistics
from tests.chaos.journal import read
from tests.chaos.plan import briefs, is_doomed
from tests.chaos.stage import AGENTS, NAMESPACE, Stage

TYPES = {
    "Director": ("BRIEF",), "Painter": ("SHOT",), "Keeper": ("SHOT",), "Biller": ("IMAGE",), "Doomed": ("BRIEF",),
    "Editor": ("BRIEF",), "Listener": ("BRIEF", "SHOT", "IMAGE", "CUT", "CHARGED"),
}  # fmt: skip
SHOWN = 5
SILENCING = {"kill", "freeze", "stall", "refuse", "pause clients", "kill valkey", "memory full", "read only", "cut",
             "kill clients", "drop replies"}  # fmt: skip
"""Faults after which a lease may run out."""


class Checker:
    """Reads everything once, and compares."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.journal = list(read(stage.cast.journal))
        self.acknowledged = {line["event"]: line for line in self.journal if line["word"] == "acknowledged"}
        with stage.engine.connect() as connection:
            self.events = self._rows(connection, "SELECT * FROM events WHERE namespace = :n ORDER BY position")
            self.deliveries = self._rows(connection, "SELECT * FROM deliveries WHERE namespace = :n")
            self.outcomes = self._rows(connection, "SELECT * FROM outcomes WHERE namespace = :n ORDER BY position")
            self.effects = self._rows(connection, "SELECT * FROM chaos_effects")
        self.caused: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.events:
            self.caused[event["causation_id"]].append(event)

    def violations(self) -> list[str]:
        """Return what does not hold; empty: everything does."""
        found = []
        for rule in (
            self._comes_to_rest, self._publishes_are_stored, self._deliveries_end_once, self._returned_once,
            self._joined_once, self._order, self._effects_once, self._statistics, self._nothing_left,
        ):  # fmt: skip
            broken = list(rule())
            found += broken[:SHOWN]
            if len(broken) > SHOWN:
                found.append(f"... and {len(broken) - SHOWN} more of the last kind")
        return found

    def _comes_to_rest(self) -> Iterator[str]:
        if self._stage.quiet_after_s is None:
            yield f"Processes live and work waits: {self._stage.left}."

    def _publishes_are_stored(self) -> Iterator[str]:
        stored = Counter(event["event_id"] for event in self.events)
        for event_id in self.acknowledged:
            if stored[event_id] != 1:
                yield f"{event_id} was acknowledged, and is in the store {stored[event_id]} times."
        for event_id, count in stored.items():
            if count > 1 and event_id not in self.acknowledged:
                yield f"{event_id} is in the store {count} times."

    def _deliveries_end_once(self) -> Iterator[str]:
        states = {(d["event_position"], d["subscriber"]): d["state"] for d in self.deliveries}
        ends = Counter(
            (o["event_position"], o["subscriber"]) for o in self.outcomes if o["state"] in ("done", "dead", "discarded")
        )
        if (
            lost := sum(o["state"] == "lost" for o in self.outcomes)
            if not SILENCING & self._stage.suffered.keys()
            else 0
        ):
            yield f"{lost} deliveries were taken from workers that nothing had silenced."
        numbers = {brief.event_id: brief.number for brief in islice(briefs(self._stage.seed), self._most())}
        for event in self.events:
            for agent in AGENTS:
                if event["type"] not in TYPES[agent]:
                    continue
                key = (event["position"], agent)
                state = states.get(key)
                meant = "dead" if agent == "Doomed" and is_doomed(numbers[event["event_id"]]) else "done"
                if state != meant:
                    yield f"{agent} should have ended {event['event_id']} ({event['type']}) as {meant}; it is {state}."
                elif ends[key] != 1:
                    yield f"{agent} ended {event['event_id']} {ends[key]} times."

    def _returned_once(self) -> Iterator[str]:
        for brief in islice(briefs(self._stage.seed), self._most()):
            if brief.event_id not in self.acknowledged:
                continue
            caused = Counter(event["type"] for event in self.caused[brief.event_id])
            if caused["SHOT"] != brief.shots:
                yield f"{brief.event_id} should have caused {brief.shots} shots; it caused {caused['SHOT']}."
        for event in self.events:
            wanted = {"SHOT": "IMAGE", "IMAGE": "CHARGED"}.get(event["type"])
            count = sum(effect["type"] == wanted for effect in self.caused[event["event_id"]]) if wanted else 1
            if count != 1:
                yield f"{event['event_id']} ({event['type']}) should have caused one {wanted}; it caused {count}."

    def _joined_once(self) -> Iterator[str]:
        for brief in islice(briefs(self._stage.seed), self._most()):
            cuts = [event for event in self.caused[brief.event_id] if event["type"] == "CUT"]
            if brief.event_id not in self.acknowledged:
                continue
            if len(cuts) != 1:
                yield f"{brief.event_id} should have one CUT; it has {len(cuts)}."
            elif (shots := _json(cuts[0]["payload"])["shots"]) != list(range(brief.shots)):
                yield f"The CUT of {brief.event_id} joined the shots {shots}, of {brief.shots}."

    def _order(self) -> Iterator[str]:
        """Done in history order per project; no two attempts of one project that both ended well overlapped."""
        of = {event["position"]: event for event in self.events}
        last: dict[str, int] = {}
        for outcome in self.outcomes:
            if outcome["subscriber"] != "Keeper" or outcome["state"] != "done":
                continue
            if outcome["event_position"] not in of:
                yield f"Keeper ended an event at {outcome['event_position']} that the store lacks."
                continue
            project, position = of[outcome["event_position"]]["project_id"], outcome["event_position"]
            if position < last.get(project, 0):
                yield f"Keeper ended {of[position]['event_id']} of {project} after a later event of it."
            last[project] = max(position, last.get(project, 0))
        yield from self._overlaps()

    def _overlaps(self) -> Iterator[str]:
        """Whoever was frozen runs on for a moment as a zombie: its attempts are left out, for they are refused."""
        open_attempts: dict[tuple[int, str], dict[str, Any]] = {}
        spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for line in self.journal:
            key = (line["pid"], line.get("delivery", ""))
            if line["word"] == "begins":
                open_attempts[key] = line
            elif line["word"] == "ends" and (begun := open_attempts.pop(key, None)):
                spans[line["project"]].append((begun["at"], line["at"], line["event"]))
        for project, some in spans.items():
            for (_, ended, one), (begun, _, other) in pairwise(sorted(some)):
                if begun < ended and one != other and ended - begun < self._stage.lease_s / 2:
                    yield f"Keeper handled {one} and {other} of {project} at the same time."

    def _effects_once(self) -> Iterator[str]:
        effects = Counter(effect["event_id"] for effect in self.effects)
        for event in self.events:
            if event["type"] == "IMAGE" and effects[event["event_id"]] != 1:
                yield f"The effects of {event['event_id']} are in the database {effects[event['event_id']]} times."

    def _statistics(self) -> Iterator[str]:
        for table in (event_statistics, delivery_statistics):
            before = self._content(table.name)
            recount(self._stage.engine, NAMESPACE)
            if before != (after := self._content(table.name)):
                differ = sum(one != other for one, other in zip(before, after, strict=False))
                yield f"{table.name} differs from adding up again ({differ + abs(len(before) - len(after))} rows)."

    def _nothing_left(self) -> Iterator[str]:
        stage = self._stage
        for name in AGENTS:
            for what in ("held", "suspects"):
                if count := stage.redis.hlen(stage.keys(what, name)):
                    yield f"{count} entries are left in {what} of {name}."
            if lanes := list(stage.redis.scan_iter(f"{stage.keys('lane', name)}:*", count=1000)):
                yield f"{len(lanes)} lanes of {name} are left."
        last = max((event["position"] for event in self.events), default=0)
        clock = int(stage.redis.get(stage.keys("clock")) or 0)
        if clock < last:
            yield f"The clock stands at {clock}, before the last event's position {last}."

    def _most(self) -> int:
        return max((line["number"] for line in self.acknowledged.values()), default=-1) + 100

    def _content(self, table: str) -> list[str]:
        with self._stage.engine.connect() as connection:
            return sorted(map(str, self._rows(connection, f"SELECT * FROM {table} WHERE namespace = :n")))

    def _rows(self, connection: Any, sql: str) -> list[dict[str, Any]]:
        found = connection.execute(text(sql), {"n": NAMESPACE} if ":n" in sql else {})
        return [dict(row) for row in found.mappings()]


def _json(value: object) -> Any:
    import json

    return json.loads(value) if isinstance(value, str) else value
