"""Leases: who owns a delivery, however its worker stalls, dies or holds what others need.

More of it is in test_crashes.py (kills, a stopped worker's zombie) and test_hostile.py (handlers that hang, a worker
that was stopped for long), and for the scripts in `tests/model`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from events.event import Event
from events.frame import Lease
from events.keys import GROUP
from events.records import RecordedEvent
from events.scripts import sources
from tests.fault_proxy import FaultProxy
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.model.test_scripts import LEASE_MS, Bench
from tests.waiting import wait_until

APP = "tests.fleet.steered:bus"
WORK = "from workers.process import run; run()"
VOID = ("taken over by another worker; what it does here is void", "was settled before, or is another worker's now")


@pytest.fixture
def proxy(world: World) -> Iterator[FaultProxy]:
    """What stands between the world's Redis and a worker that is started with its URL."""
    port = world.redis.connection_pool.connection_kwargs["port"]
    with FaultProxy("127.0.0.1", port) as proxy:
        yield proxy


def start_worker(world: World, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start one worker process without a supervisor; return it with its consumer's name once it reads."""
    environment = {"BOOK_URL": world.settings.redis_url or "", **environment}
    process = world.run([sys.executable, "-c", WORK, "--app", APP], **environment)

    def names() -> list[str]:
        return [name for name in world.consumers() if f"-{process.pid}-" in name]

    return process, wait_until(names, 30, f"the worker to read; {world.log()}")[0]


def say_go(world: World, event: Event) -> None:
    world.redis.set(f"go:{event.event_id}", 1)


def workers_of(world: World, subscriber: str) -> list[tuple[str, str]]:
    """(state, worker) of each outcome, in order."""
    fields = [entry[b"o"].decode().split("\t") for _, entry in world.redis.xrange(world.keys("outcomes"))]
    return [(field[4], field[5]) for field in fields if field[1] == subscriber]


def caused(world: World, event: Event) -> list[RecordedEvent]:
    return [r for r in world.backend.history.after(0, 10_000).events if r.causation_id == event.event_id]


def owners(world: World, subscriber: str) -> Counter[tuple[str, int]]:
    """How many of the subscriber's leases each worker has, by how often they were handed out."""
    pending = world.redis.xpending_range(world.keys("queue", subscriber), GROUP, "-", "+", 1000)
    return Counter((lease["consumer"].decode(), lease["times_delivered"]) for lease in pending)


def nothing_is_left(world: World, subscriber: str) -> bool:
    """Whether no lease, no holder and no suspicion of the subscriber is left behind."""
    keys = [world.keys(name, subscriber) for name in ("held", "suspects", "lanes", "delayed")]
    return not world.redis.xlen(world.keys("queue", subscriber)) and not world.redis.exists(*keys)


def test_a_worker_that_finishes_behind_a_stalled_connection_is_refused_and_goes_on(
    world: World, proxy: FaultProxy
) -> None:
    _, stalled = start_worker(world, REDIS_URL=proxy.url)
    event, later = make("GATED"), make("GATED")
    publish(world, event)
    wait_until(lambda: world.runs("Gated"), 20, "it to start")

    proxy.stall(True)
    say_go(world, event)
    wait_until(lambda: world.runs("Gated", "finished"), 20, "the handler to return what cannot be settled now")
    other, its_name = start_worker(world)
    world.until_settled("Gated")
    other.terminate()
    other.wait(20)
    proxy.stall(False)
    wait_until(
        lambda: any(words in world.log() for words in VOID), 30, f"the late settlement to be refused; {world.log()}"
    )

    assert workers_of(world, "Gated") == [("lost", stalled), ("done", its_name)]
    assert [recorded.payload["pid"] for recorded in caused(world, event)] == [other.pid]
    say_go(world, later)
    publish(world, later)
    world.until_settled("Gated")
    assert workers_of(world, "Gated")[2:] == [("done", stalled)], "a reply that timed out ends no worker"


def test_a_handler_that_holds_the_interpreter_for_leases_is_refused_and_its_event_exists_once(world: World) -> None:
    world.start_fleet(2, app=APP)
    event, neighbours = make("HOLD", seconds=7), [make("GATED", n=n) for n in range(40)]
    for neighbour in neighbours:
        say_go(world, neighbour)

    publish(world, *neighbours[:20], event, *neighbours[20:])
    wait_until(lambda: world.runs("Holder", "finished"), 30, f"another worker to finish; {world.log()}")
    world.until_settled("Holder", "Gated")
    assert world.runs("Holder", "finished").total() == 1, "the first one still holds its process"
    assert not any(words in world.log() for words in VOID)
    wait_until(lambda: any(words in world.log() for words in VOID), 30, f"it to be refused; {world.log()}")

    [(_, first), (_, second)] = workers_of(world, "Holder")
    assert [state for state, _ in workers_of(world, "Holder")] == ["lost", "done"] and first != second
    [recorded] = caused(world, event)
    assert f"-{recorded.payload['pid']}-" in second
    assert all(len(caused(world, neighbour)) == 1 for neighbour in neighbours)
    assert nothing_is_left(world, "Holder") and nothing_is_left(world, "Gated")


def test_leases_are_renewed_while_a_handler_computes_and_another_blocks_the_loop(world: World) -> None:
    world.start_fleet(2, app=APP)
    event = make("BUSY", seconds=3 * world.settings.lease_s)

    publish(world, event)
    world.until_settled("Busy", "Blocking", timeout=60)

    for name in ("Busy", "Blocking"):
        assert world.runs(name) == {event.event_id: 1}
        assert [state for state, _ in workers_of(world, name)] == ["done"]


def test_a_worker_killed_in_the_middle_of_taking_over_leaves_everything_to_the_next(
    world: World, proxy: FaultProxy, measured: Callable[[str], None]
) -> None:
    events = [make("SLEEP", n=n) for n in range(20)]
    first, _ = start_worker(world)
    publish(world, *events)
    wait_until(lambda: len(world.runs("Sleeper")) == 20, 20, "all to start")
    proxy.drop_replies(1_000_000, matching=hashlib.sha1(sources()["reap"].encode()).hexdigest().encode())
    reaper, its_name = start_worker(world, REDIS_URL=proxy.url)

    first.kill()
    first.wait()
    wait_until(lambda: owners(world, "Sleeper")[its_name, 2] == 20, 30, f"the reaper to own all; {world.log()}")
    reaper.kill()
    reaper.wait()
    killed_at = time.monotonic()
    _, last = start_worker(world)
    wait_until(lambda: len(world.runs("Sleeper", "finished")) == 20, 30, f"all to finish; {world.log()}")
    measured(f"taken over {time.monotonic() - killed_at:.1f} s after the kill, worker start included; a lease is 2 s")
    world.until_settled("Sleeper")

    assert set(world.runs("Sleeper").values()) == {2}, "the reaper ran none of them"
    ends = Counter(workers_of(world, "Sleeper"))
    assert ends["done", last] == 20 and ends["lost", its_name] >= 20
    assert all(len(caused(world, event)) == 1 for event in events)
    assert nothing_is_left(world, "Sleeper")


def test_workers_that_take_over_at_once_take_each_delivery_once(world: World) -> None:
    first, its_name = start_worker(world)
    events = [make("SLEEP", n=n) for n in range(60)]
    publish(world, *events)
    wait_until(lambda: len(world.runs("Sleeper")) == 60, 20, "all to start")
    world.start_fleet(3, app=APP)

    first.kill()
    first.wait()
    wait_until(lambda: len(world.runs("Sleeper", "finished")) == 60, 30, f"all to finish; {world.log()}")
    world.until_settled("Sleeper")

    assert set(world.runs("Sleeper").values()) == {2}
    ends = Counter((state, worker == its_name) for state, worker in workers_of(world, "Sleeper"))
    assert ends == {("lost", True): 60, ("done", False): 60}


def test_a_silent_delivery_goes_to_one_of_many_reapers(world: World) -> None:
    bench = Bench(world.redis, world.settings.namespace)
    bench.declare("S")
    bench.publish(*(make("A", n=n) for n in range(400)))
    leases = bench.read("S", 160, "dead")
    for lease in leases:
        bench.is_silent(lease, "dead")
    start, taken, lock = threading.Barrier(8), list[Lease](), threading.Lock()

    def reap(number: int) -> None:
        deliveries = bench.as_(f"reaper-{number}")
        start.wait()
        for _ in leases:
            found = deliveries.reap(["S"], LEASE_MS, 7)
            with lock:
                taken.extend(found)

    threads = [threading.Thread(target=reap, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(lease.entry_id for lease in taken) == {lease.entry_id: 1 for lease in leases}
    assert {lease.count for lease in taken} == {2}
