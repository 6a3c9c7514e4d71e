"""Back-filling against publishers and an archiver: every interleaving that seeds can find, and real threads."""

from __future__ import annotations

import threading
from collections import defaultdict
from random import Random
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from events.backfill import Place, fill, look
from events.scripts import sources
from store.replay import Page
from tests.model.filling import FROM_THE_BEGINNING, Bench, filler
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

SEEDS, STEPS = 40, 70


class Play:
    """Publishers, two fillers, an archiver and a worker, in the order of a seed.

    A filler reads in one move and writes in another, so that anything may come between.
    """

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = Random(seed)
        self.read: dict[str, tuple[str, Place, Page] | None] = {"f0": None, "f1": None}
        self.order: dict[str, list[str]] = {"S": [], "Ordered": []}
        self.published: list[tuple[str, str]] = []

    def run(self) -> str:
        """Play, then let one filler finish; return what is wrong, if anything is."""
        self.publish()
        for name, ordering in (("S", ""), ("Ordered", "project")):
            self.bench.declare(name, "A", "B", ordering=ordering, window=4, steering=FROM_THE_BEGINNING)
        for _ in range(STEPS):
            self.random.choice(
                (self.publish, self.publish, self.archive, self.look, self.write, self.write, self.work)
            )()
        for name in self.order:
            for _ in range(200):
                if self.bench.state(name)[0] == b"live":
                    break
                self.bench.fill(name, 20)
            while more := self.bench.handled(name):
                self.order[name] += more
        return self.verdict()

    def publish(self) -> None:
        kind = self.random.choice("AAABC")
        ids = self.bench.publish(self.random.choice((1, 1, 2, 5)), kind)
        self.published += [(event_id, kind) for event_id in ids]

    def archive(self) -> None:
        self.bench.archiver.step("history")

    def look(self) -> None:
        name, who = self.random.choice(list(self.order)), self.random.choice(list(self.read))
        place = look(self.bench.namespace, name)
        if place.is_filling:
            self.read[who] = (name, place, self.bench.page(place, self.random.choice((1, 3, 20))))

    def write(self) -> None:
        who = self.random.choice(list(self.read))
        found = self.read[who]
        if found is None:
            return
        if self.random.random() < 0.7:
            self.read[who] = None  # else it is sent again, as after a lost reply
        name, place, page = found
        fill(self.bench.namespace, name, place, page.last, page.events, is_end=page.complete)

    def work(self) -> None:
        name = self.random.choice(list(self.order))
        self.order[name] += self.bench.handled(name, 5)

    def verdict(self) -> str:
        wanted = [event_id for event_id, kind in self.published if kind in "AB"]
        for name, order in self.order.items():
            if sorted(order) != sorted(wanted):
                return f"{name} has {sorted(order)}, not {sorted(wanted)}"
            lanes: dict[int, list[int]] = defaultdict(list)
            for event_id in order:
                lanes[int(event_id[1:]) % 3].append(int(event_id[1:]))
            if any(lane != sorted(lane) for lane in lanes.values()):
                return f"{name} is out of order: {lanes}"
        return ""


def played(client: Any, engine: Engine, seed: int, texts: dict[str, str] | None = None) -> str:
    return Play(Bench(client, engine, texts), seed).run()


@pytest.mark.parametrize("group", range(4))
def test_each_event_comes_once_and_in_order_whatever_comes_between_reading_and_writing(
    client: redis.Redis, engine: Engine, group: int
) -> None:
    for seed in range(group, SEEDS, 4):
        assert played(client, engine, seed) == "", f"seed {seed}"


MUTATIONS = {
    "without_comparing": ("if cursor ~= r.cursor or types ~= r.types then", "if cursor == '' then"),
    "live_without_looking_at_the_end": ("is_end and has_all_after(upto) and read_on()", "is_end"),
    "live_although_trimmed": ("is_end and has_all_after(upto) and read_on()", "is_end and read_on()"),
    "cursor_not_moved": ("redis.call('HSET', key('sub', S), 'cursor', whole(upto))", ""),
    "publish_gives_it_too": ("if record(S).state ~= 'backfill' then", "if true then"),
    "the_tail_is_not_taken": ("if id and body and root and depth and takes(r, kind) then", "if false then"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_interleavings_catch(valkey_server: ValkeyServer, engine: Engine, mutation: str) -> None:
    old, new = MUTATIONS[mutation]
    texts = {script: text.replace(old, new) for script, text in sources().items()}
    assert texts != sources(), "the mutation finds its snippet"

    with valkey_server.client() as client:
        assert any(played(client, engine, seed, texts) for seed in range(SEEDS)), f"{SEEDS} seeds saw nothing"
        client.flushall()


def test_threads_that_publish_fill_archive_and_handle_at_once_leave_each_event_once_and_in_order(
    client: redis.Redis, engine: Engine
) -> None:
    bench = Bench(client, engine)
    published = bench.publish(400)
    bench.archive()
    bench.declare("S", "A", ordering="project", window=8, steering=FROM_THE_BEGINNING)
    fillers = [filler(bench, "S", page=7), filler(bench, "S", page=11)]
    stop = threading.Event()
    order: list[str] = []

    def archive() -> None:
        while not stop.is_set():
            bench.archiver.step("history")

    def publish() -> None:
        while not stop.is_set():
            if len(published) - len(order) < 600:
                published.extend(bench.publish(3))

    threads = [threading.Thread(target=archive), threading.Thread(target=publish)]
    for part in (*threads, *fillers):
        part.start()
    try:
        wait_until(lambda: order.extend(bench.handled("S", 50)) or bench.state("S")[0] == b"live", 60, "it to be live")
        beyond = len(order) + 300
        wait_until(lambda: order.extend(bench.handled("S", 50)) or len(order) > beyond, 60, "more to come after that")
    finally:
        stop.set()
        [thread.join(30) for thread in threads]
        [one.stop() for one in fillers]
    order += bench.handled("S")

    assert sorted(order) == sorted(published)
    for lane in range(3):
        numbers = [int(event_id[1:]) for event_id in order if int(event_id[1:]) % 3 == lane]
        assert numbers == sorted(numbers)
