"""What Redis holds after a step, and what must be true of it.

every delivery is in exactly one place: a lane, the window, the window leased, delayed, or ended
XLEN(queue) <= window; no lane waits while the window has room
an ordered lane has at most one delivery on its way, the oldest, and `held` names it
`lanes` has exactly the lanes whose head may move; what came back is at the head
history and outcomes are what the model wrote, in its order, at ever later positions
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from events.keys import GROUP, SUFFIX
from events.namespace import Namespace
from tests.model.oracle import Delivery, Oracle, Violation, demand, entry_order, frame_of
from tests.model.scene import CAST, body_of

# Pairs of lists: for each subscriber all that it has; then what was appended since the last look.
_LOOK = """
local ns = string.sub(KEYS[1], 1, -5)
local function after(stream, position) return redis.call('XRANGE', ns .. stream, position, '+') end
local reply = { after('history', ARGV[1]), after('outcomes', ARGV[1]), redis.call('XLEN', ns .. 'history'),
                redis.call('XLEN', ns .. 'outcomes'), redis.call('GET', ns .. 'archived') or '0', {} }
local i = 2
while i <= #ARGV do
  local S, n = ARGV[i], tonumber(ARGV[i + 1])
  local queue, lists = ns .. 'queue:' .. S, {}
  for l = 1, n do lists[l] = redis.call('LRANGE', ns .. 'lane:' .. S .. ':' .. ARGV[i + 1 + l], 0, -1) end
  i = i + 2 + n
  table.insert(reply[6], {
    redis.call('XRANGE', queue, '-', '+'), redis.call('XPENDING', queue, 'fleet', '-', '+', 1000),
    redis.call('ZRANGE', ns .. 'lanes:' .. S, 0, -1), redis.call('HGETALL', ns .. 'held:' .. S),
    redis.call('ZRANGE', ns .. 'delayed:' .. S, 0, -1), redis.call('HGETALL', ns .. 'suspects:' .. S),
    lists, after('dead:' .. S, ARGV[1]), redis.call('XLEN', ns .. 'dead:' .. S) })
end
return reply
"""


@dataclass(slots=True)
class Kept:
    """All that Redis keeps for one subscriber."""

    window: dict[str, bytes]
    pending: dict[str, tuple[str, int]]
    waiting: set[str]
    held: dict[str, str]
    delayed: list[bytes]
    suspects: dict[str, int]
    lanes: dict[str, list[bytes]]
    dead: list[tuple[int, dict[str, str]]]
    letters: int


class Observer:
    """Looks at a namespace after every step and compares it with the oracle."""

    def __init__(self, namespace: Namespace, oracle: Oracle, floor: int) -> None:
        self.namespace = namespace
        self.oracle = oracle
        self.highest = floor
        self.positions: list[int] = []
        self.outcomes: list[tuple[int, tuple[str, ...]]] = []
        self.letters: set[int] = set()
        self._look = namespace.client.register_script(_LOOK)
        self._facts = self._outcomes = self._looks = 0
        self._dead = dict.fromkeys(oracle.live, 0)

    def look(self) -> None:
        """Check what was appended and whom the step touched; everybody at every eighth look."""
        self._looks += 1
        names = [name for name in self.oracle.live if name in self.oracle.touched or self._looks % 8 == 0]
        asked: list[Any] = [self.highest + 1]
        lanes = {name: self._lanes(name) for name in names}
        for name in names:
            asked += [name, len(lanes[name]), *lanes[name]]
        history, outcomes, length, outcomes_length, archived, kept = self._look([self.namespace.keys("meta")], asked)
        everything = {name: _kept(raw, lanes[name]) for name, raw in zip(names, kept, strict=True)}
        self._check_appended(history, outcomes, everything)
        self.history_length, self.outcomes_length, self.archived = length, outcomes_length, int(archived)
        for name, found in everything.items():
            self._check(name, found)
        self.oracle.touched.clear()

    def look_at_all(self) -> None:
        """Take a snapshot of everything and check it."""
        self.oracle.touched.update(self.oracle.live)
        self.look()

    def direct(self, position: int) -> None:
        """A position was given without an event."""
        demand(position > self.highest, f"the position {position} is not later than {self.highest}")
        self.highest = position

    def _lanes(self, name: str) -> list[str]:
        waiting = {d.lane for d in self.oracle.live[name].values() if not d.foreign}
        return sorted(waiting | self.oracle.blocked[name].keys())

    # what was appended

    def _check_appended(self, history: Any, outcomes: Any, everything: dict[str, Kept]) -> None:
        new = [self._check_fact(entry_id, _texts(fields), fields) for entry_id, fields in history]
        self.letters.update(position for found in everything.values() for position, _ in found.dead)
        missing = [str(fact.spec) for fact in self.oracle.expected_facts[self._facts :]]
        demand(not missing, f"history lacks {missing}")
        for entry_id, fields in outcomes:
            new.append(self._check_outcome(entry_id, fields))
        expected = self.oracle.expected_outcomes
        demand(self._outcomes == len(expected), f"outcomes lack {expected[self._outcomes :]}")
        for name, found in everything.items():
            new += [position for position, _ in found.dead]
            self._check_dead(name, found)
        demand(len(set(new)) == len(new), f"a position was given twice: {sorted(new)}")
        self.highest = max([self.highest, *new])

    def _check_fact(self, entry_id: bytes, fields: dict[str, str], raw: list[bytes]) -> int:
        expected = self.oracle.expected_facts[self._facts : self._facts + 1]
        demand(expected, f"history has an event that nobody published: {fields}")
        fact = expected[0]
        position = _position(entry_id)
        says = (raw[1], fields["r"], fields["d"], fields["s"], fields["o"])
        root, origin = fact.root if fact.root != fact.spec.id else "", fact.origin if fact.origin != "publish" else ""
        wanted = (body_of(fact.spec), root, str(fact.depth), "\t".join(fact.subscribers), origin)
        demand(says == wanted, f"history says {says}, the model {wanted}")
        fact.position = position
        for name in fact.subscribers:
            if fact.spec.id in self.oracle.live[name]:
                self.oracle.live[name][fact.spec.id].position = position
        self.positions.append(position)
        self._facts += 1
        return position

    def _check_outcome(self, entry_id: bytes, fields: list[bytes]) -> int:
        says = tuple(fields[1].decode().split("\t"))
        expected = self.oracle.expected_outcomes[self._outcomes : self._outcomes + 1]
        demand(expected == [says], f"the outcome is {says}, the model says {expected}")
        self._check_letter(says, dict(zip(fields[2::2], fields[3::2], strict=True)))
        self.outcomes.append((_position(entry_id), says))
        self._outcomes += 1
        return _position(entry_id)

    def _check_letter(self, says: tuple[str, ...], more: dict[bytes, bytes]) -> None:
        """What makes a dead letter or decides about one names it; what makes it carries its texts."""
        expected = self.oracle.expected_texts[self._outcomes]
        texts = tuple(more[name].decode() for name in (b"t", b"x", b"f") if name in more)
        demand(texts == expected, f"the outcome {says} carries {texts}, the model says {expected}")
        has_letter = says[4] == "dead" or says[3] == "0"
        demand((b"d" in more) == has_letter, f"the outcome {says} names the letter {more.get(b'd')!r}")
        demand(not has_letter or int(more[b"d"]) in self.letters, f"the outcome {says} names no letter that was kept")

    def _check_dead(self, name: str, found: Kept) -> None:
        expected = self.oracle.expected_dead[name][self._dead[name] :]
        open_letters = len(self.oracle.letters[name])
        demand(found.letters == open_letters, f"{name} has {found.letters} letters, the model says {open_letters}")
        demand(len(found.dead) == len(expected), f"dead letters of {name}: {found.dead}, the model says {expected}")
        for (_, fields), wanted in zip(found.dead, expected, strict=True):
            says = (_name_of(fields["f"].encode()), *(fields[key] for key in "rtawo"))
            demand(says == wanted, f"the dead letter of {name} is {says}, the model says {wanted}")
        self._dead[name] += len(expected)

    # what waits

    def _check(self, name: str, found: Kept) -> None:
        live = list(self.oracle.live[name].values())
        by_frame = {self._frame(delivery): delivery for delivery in live}
        self._check_places(name, found, by_frame)
        foreign = sum(1 for frame in found.window.values() if by_frame[frame].foreign)
        window = CAST[name].window or 160
        demand(len(found.window) - foreign <= window, f"{name}: {len(found.window)} in a window of {window}")
        demand(not found.waiting or len(found.window) >= window, f"{name}: {found.waiting} may move, and there is room")
        self._check_lanes(name, found, by_frame)
        starts = {d.name: d.starts for d in live if d.counted}
        demand(found.suspects == starts, f"{name}: suspects are {found.suspects}, the model says {starts}")

    def _frame(self, delivery: Delivery) -> bytes:
        return delivery.foreign or frame_of(self.oracle.facts[delivery.event_id], delivery)

    def _check_places(self, name: str, found: Kept, by_frame: dict[bytes, Delivery]) -> None:
        seen: set[int] = set()

        def meet(frame: bytes, place: str) -> Delivery:
            if frame not in by_frame:
                raise Violation(f"{name}: {place} holds {frame[:120]!r}, which the model does not expect")
            delivery = by_frame[frame]
            if id(delivery) in seen:
                raise Violation(f"{name}: {delivery.event_id} is in two places")
            if delivery.place != place:
                raise Violation(f"{name}: {delivery.event_id} is {place}, the model says {delivery.place}")
            seen.add(id(delivery))
            return delivery

        for delivery in by_frame.values():
            if delivery.place != "leased":
                delivery.entry = ""
        for entry, frame in found.window.items():
            delivery = meet(frame, "leased" if entry in found.pending else "queued")
            delivery.entry = entry
            token = found.pending.get(entry)
            said = (delivery.owner, delivery.count) if token else None
            if token != said:
                raise Violation(f"{name}: the lease of {delivery.event_id} is {token}, the model says {said}")
        demand(found.pending.keys() <= found.window.keys(), f"{name}: a lease outlives its entry: {found.pending}")
        for frame in found.delayed:
            meet(frame, "delayed")
        for frames in found.lanes.values():
            for frame in frames:
                meet(frame, "queued")
        lost = [d.event_id for d in by_frame.values() if id(d) not in seen]
        demand(not lost, f"{name}: Redis has lost {lost}")

    def _check_lanes(self, name: str, found: Kept, by_frame: dict[bytes, Delivery]) -> None:
        ordered = bool(CAST[name].ordering)
        held = self._holders(name, found, by_frame) if ordered else {}
        demand(found.held == held, f"{name}: held is {found.held}, the model says {held}")
        may_move = set()
        for lane, frames in found.lanes.items():
            waiting = [by_frame[frame] for frame in frames]
            order = [(not d.returned, d.head or d.position) for d in waiting]
            if order != sorted(order):
                raise Violation(f"{name}: the lane {lane} waits in the order {[d.event_id for d in waiting]}")
            demand(all(d.lane == lane for d in waiting), f"{name}: the lane {lane} holds deliveries of other lanes")
            if waiting and held.get(lane) in (None, waiting[0].name):
                may_move.add(lane)
        demand(found.waiting == may_move, f"{name}: lanes are {found.waiting}, the model says {may_move}")

    def _holders(self, name: str, found: Kept, by_frame: dict[bytes, Delivery]) -> dict[str, str]:
        """Who holds each lane; on the way there is the oldest of its lane, and no other."""
        held = dict(self.oracle.blocked[name])
        oldest: dict[str, Delivery] = {}
        for delivery in sorted(by_frame.values(), key=lambda d: d.position):
            waits = delivery.revived and not (delivery.entry or delivery.place == "delayed" or delivery.returned)
            if not delivery.foreign and not waits:
                oldest.setdefault(delivery.lane, delivery)
        for delivery in by_frame.values():
            if not delivery.foreign and (delivery.entry or delivery.place == "delayed" or delivery.returned):
                lane = delivery.lane
                if lane in held:
                    raise Violation(f"{name}: {delivery.name} is on its way while {held[lane]} holds {lane}")
                if oldest[lane] is not delivery:
                    raise Violation(f"{name}: {delivery.name} is on its way before {oldest[lane].name}")
                held[lane] = delivery.name
        return held

    # the end

    def check_end(self) -> None:
        """Nothing is left but what waits behind a dead letter that blocks its lane."""
        for name, live in self.oracle.live.items():
            stuck = [d.event_id for d in live.values() if d.lane not in self.oracle.blocked[name]]
            demand(not stuck, f"{name}: {stuck} never ended")
        for fact in self.oracle.facts.values():
            for name in fact.subscribers:
                known = (name, fact.spec.id) in self.oracle.ended or fact.spec.id in self.oracle.live[name]
                demand(known, f"{name}: nobody knows what became of {fact.spec.id}")
        self._check_keys()

    def _check_keys(self) -> None:
        prefix = self.namespace.keys.prefix
        found = [key.decode().removeprefix(prefix) for key in self.namespace.client.scan_iter(f"{prefix}*", 5000)]
        lanes = {f"lane:{name}:{lane}" for name in self.oracle.live for lane in self._lanes(name)}
        heads = {suffix.rstrip(":") for suffix in SUFFIX.values()} - {"lane", "lanes", "delayed", "suspects"}
        for key in found:
            demand(key in lanes or key.split(":")[0] in heads, f"the key {key} is left over")


def _kept(raw: Any, lanes: Iterable[str]) -> Kept:
    window, pending, waiting, held, delayed, suspects, lists, dead, letters = raw
    return Kept(
        window={entry.decode(): fields[1] for entry, fields in window},
        pending={entry.decode(): (owner.decode(), count) for entry, owner, _, count in pending},
        waiting={lane.decode() for lane in waiting},
        held=_texts(held),
        delayed=delayed,
        suspects={name: int(starts) for name, starts in _texts(suspects).items()},
        lanes=dict(zip(lanes, lists, strict=True)),
        dead=[(_position(entry), _texts(fields)) for entry, fields in dead],
        letters=letters,
    )


def _texts(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _position(entry: bytes) -> int:
    position, sequence = entry_order(entry.decode())
    demand(sequence == 0, f"the entry id {entry!r} is not a position")
    return position


def _name_of(frame: bytes) -> str:
    position, _, rest = frame.partition(b"\t")
    redelivery = rest.partition(b"\t")[0]
    return f"{position.decode()}:{redelivery.decode()}" if rest else "0:0"


assert f"'{GROUP}'" in _LOOK
