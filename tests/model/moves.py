"""Which operation comes next: a seeded choice among what could happen now, with a taste for trouble.

Each run has a mood: it favours some operations over others. Source: swarm testing (Groce et al., 2012).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.model.oracle import Item, Ref
from tests.model.scene import CAST, PROJECTS, TYPES, Spec
from tests.model.world import WORKERS, Operation, Worker, World

MAX_FACTS = 70
_ENDS = ("done",) * 8 + ("retried",) * 3 + (
    "discarded", "dead", "dead", "retried later", "put off", "handed back", "handed back", "interrupted",
)  # fmt: skip
_KEYS = ("", "k1", "k2")


class Moves:
    """Chooses operations for one run."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self._published: list[Spec] = []
        self._number = 0
        self._cast = world.stage.cast
        self._weights: dict[Callable[[], Operation | None], int] = {
            self._publish: 16, self._handler_publishes: 4, self._read: 20, self._settle: 24, self._resend: 6,
            self._renew: 6, self._silence: 8, self._reap: 9, self._begin: 4, self._due: 3, self._promote: 5,
            self._crash: 2, self._declare: 2, self._undeclare: 1, self._archive: 6, self._outcomes: 2,
            self._retry_dead: 8, self._discard_dead: 3,
            self._late: 2, self._forget: 1, self._look: 2, self._position: 2, self._poison: 1,
        }  # fmt: skip
        for move in self._weights:
            self._weights[move] *= random.choice((1, 2, 4))

    def next(self) -> Operation:
        """Return an operation that can happen now."""
        choices, weights = list(self._weights), list(self._weights.values())
        while True:
            operation = self.random.choices(choices, weights)[0]()
            if operation:
                return operation

    # publishing

    def _publish(self) -> Operation | None:
        if len(self.world.oracle.facts) > MAX_FACTS:
            return None
        return "publish", tuple(self._spec() for _ in range(self.random.choice((1, 1, 2, 3, 5))))

    def _spec(self) -> Spec:
        chance = self.random.random()
        if self._published and chance < 0.12:
            return self.random.choice(self._published)
        if self._published and chance < 0.18:
            return self.random.choice(self._published)._replace(n=1000 + self._next())
        known = list(self.world.oracle.facts)
        cause = self.random.choice(known) if known and chance > 0.7 else "stranger" if chance > 0.68 else ""
        if self._published and chance > 0.95:
            cause = self._published[-1].id
        number = self._next()
        spec = Spec(
            f"e{number}", self.random.choice(TYPES), self.random.choice(PROJECTS), cause,
            f"r{number % 3}" if 0.2 < chance < 0.3 else "", self.random.choice(_KEYS), number,
            self.random.choice((0, 0, 0, 5, -5)),
        )  # fmt: skip
        self._published.append(spec)
        return spec

    def _handler_publishes(self) -> Operation | None:
        ref = self._attempt(self._worker())
        if not ref or ref.event_id not in self.world.oracle.facts:
            return None
        return "publish", self._returned(ref, 1), ref

    def _returned(self, ref: Ref, count: int) -> tuple[Spec, ...]:
        """What a handler makes of an event: ids derived, bodies as this attempt measured them."""
        fact = self.world.oracle.facts.get(ref.event_id)
        if not fact or fact.depth > 3 or len(self.world.oracle.facts) > MAX_FACTS:
            return ()
        specs = []
        for n in range(count):
            if self._published and self.random.random() < 0.04:
                specs.append(self.random.choice(self._published)._replace(n=2000 + self._next()))
                continue
            kind, key, root = self.random.choice(TYPES), self.random.choice(_KEYS), fact.root if n % 2 else ""
            name = f"{ref.event_id}>{ref.subscriber}.{n}"
            specs.append(Spec(name, kind, fact.spec.project, ref.event_id, root, key, ref.handed))
        return tuple(specs)

    # workers

    def _read(self) -> Operation:
        some = self._some()
        return "read", self._worker().name, some, self.random.choice((1, 1, 2, 4)), self.random.random() < 0.06

    def _settle(self) -> Operation | None:
        worker = self._worker()
        refs = [ref for ref in (self._attempt(worker) for _ in range(self.random.choice((1, 1, 2, 4)))) if ref]
        items = tuple(self._item(ref) for ref in refs)
        return ("settle", worker.name, items, self.random.random() < 0.15) if items else None

    def _item(self, ref: Ref) -> Item:
        if ref.event_id.startswith("poison"):
            return Item(ref, self.random.choice(("dead", "discarded")))
        how = self.random.choice(_ENDS)
        returned = self._returned(ref, self.random.choice((0, 0, 1, 2, 3))) if how == "done" else ()
        return Item(ref, how, returned)

    def _resend(self) -> Operation | None:
        worker = self._worker()
        if not worker.unanswered:
            return None
        items = worker.unanswered.pop(self.random.randrange(len(worker.unanswered)))
        return "settle", worker.name, items, False

    def _renew(self) -> Operation | None:
        worker = self._worker()
        return ("renew", worker.name) if worker.held else None

    def _silence(self) -> Operation | None:
        """One worker stalls, or a few leases go unrenewed."""
        leased = [d for live in self.world.oracle.live.values() for d in live.values() if d.place == "leased"]
        if not leased:
            return None
        again = [d for d in leased if d.handed > 1]
        victim = self.random.choice(again if again and self.random.random() < 0.5 else leased)
        same = [d for d in leased if d.owner == victim.owner]
        chosen = same if self.random.random() < 0.5 else [victim]
        return "silence", tuple((d.subscriber, d.event_id) for d in chosen)

    def _reap(self) -> Operation:
        some = self._some()
        who = self._haunted() if self.random.random() < 0.5 else self._worker().name
        return "reap", who, some, self.random.choice((1, 3, 100)), self.random.random() < 0.1

    def _haunted(self) -> str:
        """A worker in which an attempt still runs whose lease has been lost and has gone silent again."""
        for worker in self.world.workers.values():
            for ref in worker.running:
                delivery = self.world.oracle.live[ref.subscriber].get(ref.event_id)
                if delivery and delivery.silent and delivery.owner != worker.consumer:
                    return worker.name
        return self._worker().name

    def _begin(self) -> Operation | None:
        worker = self._worker()
        refs = [ref for ref, lease in worker.running.items() if lease.suspect and not ref.event_id.startswith("poison")]
        return ("begin", worker.name, self._prefer_zombies(worker, refs)) if refs else None

    def _due(self) -> Operation | None:
        delayed = [d for live in self.world.oracle.live.values() for d in live.values() if d.place == "delayed"]
        some = tuple((d.subscriber, d.event_id) for d in delayed if self.random.random() < 0.5)
        return ("due", some) if some else None

    def _promote(self) -> Operation:
        some = self._some()
        return "promote", self._worker().name, some, self.random.choice((1, 2, 1000))

    def _crash(self) -> Operation:
        return "crash", self._worker().name

    # operators

    def _retry_dead(self) -> Operation | None:
        return self._decide("retry_dead")

    def _discard_dead(self) -> Operation | None:
        return self._decide("discard_dead")

    def _decide(self, name: str) -> Operation | None:
        """Some letters of a subscriber, perhaps one of them twice, perhaps one about which somebody has decided."""
        open_letters = [subscriber for subscriber, letters in self.world.oracle.letters.items() if letters]
        if not open_letters:
            return None
        subscriber = self.random.choice(open_letters)
        names = list(self.world.oracle.letters[subscriber])
        seen = [(event_id, n) for who, event_id, n in self.world.letters if who == subscriber]
        chosen = [name for name in names if self.random.random() < 0.6]
        chosen += self.random.sample(seen, 1) if seen and self.random.random() < 0.4 else []
        chosen += chosen[:1] if self.random.random() < 0.2 else []
        self.random.shuffle(chosen)
        return (name, subscriber, tuple(chosen)) if chosen else None

    # everything else

    def _declare(self) -> Operation:
        if "guest" in self._cast and self.random.random() < 0.5:
            return "declare", "guest", tuple(self.random.sample(TYPES, self.random.randint(1, 2)))
        name = self.random.choice(self._cast)
        return "declare", name, CAST[name].types

    def _undeclare(self) -> Operation | None:
        if "guest" not in self._cast:
            return None
        return "undeclare", "guest", tuple(self.random.sample(TYPES, self.random.randint(0, 1)))

    def _archive(self) -> Operation:
        then = self.random.choice(("called", "called", "called", "owed", "never"))
        return "archive_step", self._archiver(), self.random.choice((1, 5, 20)), self.random.choice((0, 0, 3)), then

    def _outcomes(self) -> Operation:
        return "archive_outcomes", self._archiver(), 20, self.random.choice(("called", "owed", "never"))

    def _late(self) -> Operation | None:
        who = self._archiver()
        return ("archive_late", who) if self.world.archive.owed.get(who) else None

    def _look(self) -> Operation:
        return "history", self.random.randrange(1000)

    def _position(self) -> Operation:
        return ("position",)

    def _forget(self) -> Operation:
        return ("forget_scripts",)

    def _poison(self) -> Operation:
        return "poison", self.random.choice(self._cast), self._next(), self.random.choice(("", *PROJECTS))

    def _some(self) -> tuple[str, ...]:
        """Most subscribers, or one."""
        count = 1 if self.random.random() < 0.3 else self.random.randint((len(self._cast) + 1) // 2, len(self._cast))
        return tuple(self.random.sample(self._cast, count))

    def _worker(self) -> Worker:
        return self.world.workers[self.random.choice(WORKERS)]

    def _archiver(self) -> str:
        return self.random.choice(("a0", "a1"))

    def _attempt(self, worker: Worker) -> Ref | None:
        """An attempt that runs; zombies are likelier than they deserve."""
        if not worker.running:
            return None
        return self._prefer_zombies(worker, list(worker.running))

    def _prefer_zombies(self, worker: Worker, refs: list[Ref]) -> Ref:
        zombies = [ref for ref in refs if not self.world.oracle.holder(ref, worker.consumer)]
        fresh = [ref for ref in zombies if ref.event_id in self.world.oracle.live[ref.subscriber]]
        return self.random.choice((fresh or zombies) if zombies and self.random.random() < 0.4 else refs)

    def _next(self) -> int:
        self._number += 1
        return self._number
