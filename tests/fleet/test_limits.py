"""Fair share and limits on a fleet of two worker processes: turns, concurrency, rates, urgency, keys, steering."""

from __future__ import annotations

import re
import threading
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import redis

from events.steering import CODE, steer
from tests.fleet.conftest import running_fleet
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until

APP = "tests.fleet.gated:bus"
SECOND = 1_000_000
PATIENCE_S = 60


class Begun(NamedTuple):
    """One start of a handler: of which event, when by the server's clock, and how many of its subscriber ran then."""

    event_id: str
    at_us: int
    running: int
    pid: int


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two worker processes whose leases are too long to lapse on a busy machine."""
    with ValkeyServer() as server:
        yield from running_fleet(server.url, tmp_path_factory.mktemp("limits"), APP, lease_s=60, timeout_s=20)


def begun(world: World, name: str) -> list[Begun]:
    """Every start of a subscriber's handlers, in order."""
    lines = [line.decode().split() for line in world.redis.lrange(f"began:{name}", 0, -1)]
    return [Begun(event_id, int(at), int(running), int(pid)) for event_id, at, running, pid in lines]


def open_gate(world: World, name: str) -> None:
    world.redis.set(f"open:{name}", 1)


def forget(world: World, name: str) -> None:
    """Begin a subscriber's bookkeeping anew, its gate shut."""
    world.redis.delete(f"began:{name}", f"ended:{name}", f"open:{name}", f"now:{name}")


def until_begun(world: World, name: str, count: int) -> list[Begun]:
    what = f"{count} starts of {name}; {world.log()}"
    return wait_until(lambda: len(found := begun(world, name)) >= count and found, PATIENCE_S, what)


def most_in(times_us: Sequence[int], span_us: int = SECOND) -> int:
    """The most of these moments that lie within one span, wherever it begins."""
    ordered = sorted(times_us)
    return max(bisect_left(ordered, start + span_us) - n for n, start in enumerate(ordered))


# fair share


@pytest.mark.parametrize(("name", "sleep"), [("Plain", 0.02), ("Async", 0.4), ("Async", 0.0)])
def test_the_last_of_five_is_served_among_the_first_two_hundred_though_ten_thousand_wait(
    fleet: World, measured: Callable[[str], None], name: str, sleep: float
) -> None:
    forget(fleet, name)
    steer(fleet.backend.namespace, name, paused=True)
    for start in range(0, 10_000, 1000):
        publish(fleet, *(make(name.upper(), project="crowd", n=start + n, sleep=sleep) for n in range(1000)))
    steer(fleet.backend.namespace, name, paused=False)
    until_begun(fleet, name, 900)

    try:
        served = [the_last_of_five(fleet, name, sleep)]
        while served[-1].place > served[-1].bound and len(served) < 3:  # a process of the two may have stood still
            served.append(the_last_of_five(fleet, name, sleep))
        last = served[-1]
        measured(f"{name} of {sleep:g} s: the last of five began as number {last.place} of {last.bound}")
        still = 10_000 + 5 * len(served) - len(begun(fleet, name))
        assert still > 0, "the crowd still waits, or this proves nothing"
        assert last.place <= last.bound, served
    finally:
        _leave_the_rest(fleet, name)


class Served(NamedTuple):
    """As which of all that start after its publish an event began, and as which at the latest it may."""

    place: int
    bound: int


def the_last_of_five(fleet: World, name: str, sleep: float) -> Served:
    """Publish five events of another project, and return how the last of them was served.

    The window is wider by what Redis was told to run for a while. Handlers that take no time do so where a starved
    process stands still; they end and start others before Redis is told, so the bound is wider by them too.
    """
    told = [0]

    def are_served() -> bool:
        told.append(int(fleet.redis.hget(fleet.keys("sub", name), "running") or 0))
        return ids <= {one.event_id for one in begun(fleet, name)}

    late = publish(fleet, *(make(name.upper(), project="late", n=n, sleep=sleep) for n in range(5)))
    ids = {receipt.event_id for receipt in late}
    wait_until(are_served, PATIENCE_S, "the five to be served")
    after = [one.event_id for one in begun(fleet, name) if one.at_us > late[-1].position]
    return Served(1 + max(after.index(event_id) for event_id in ids), 200 + (0 if sleep else max(told)))


def _leave_the_rest(world: World, name: str) -> None:
    """Take what still waits away, so that the next test has the fleet to itself."""
    steer(world.backend.namespace, name, paused=True)
    keys = world.keys
    lanes = [key for key in world.redis.scan_iter(match=f"{keys('lane', name)}:*", count=1000)]
    world.redis.delete(*lanes, keys("lanes", name))
    wait_until(lambda: world.redis.xlen(keys("queue", name)) == 0, PATIENCE_S, f"{name} to end what runs")
    lanes = [key for key in world.redis.scan_iter(match=f"{keys('lane', name)}:*", count=1000)]
    world.redis.delete(*lanes, keys("lanes", name))
    steer(world.backend.namespace, name, paused=False)


# concurrency


def test_a_concurrency_holds_across_processes_and_another_takes_effect_without_a_restart(fleet: World) -> None:
    forget(fleet, "Three")
    publish(fleet, *(make("THREE", project=f"p{n % 3}", n=n, gate=True, sleep=0.01) for n in range(60)))

    until_begun(fleet, "Three", 3)
    steer(fleet.backend.namespace, "Three", concurrency=6)
    six = until_begun(fleet, "Three", 6)
    assert max(one.running for one in six[:3]) == 3 and len(six) == 6

    steer(fleet.backend.namespace, "Three", concurrency=2)
    open_gate(fleet, "Three")
    fleet.until_settled("Three", timeout=PATIENCE_S)
    all_of_them = begun(fleet, "Three")
    assert max(one.running for one in all_of_them[6:]) == 2
    assert len({one.pid for one in all_of_them}) == 2, "both processes took part"
    assert len(all_of_them) == len({one.event_id for one in all_of_them}) == 60


def test_three_at_once_are_never_four(fleet: World, measured: Callable[[str], None]) -> None:
    steer(fleet.backend.namespace, "Three", concurrency=CODE)
    forget(fleet, "Three")

    publish(fleet, *(make("THREE", project=f"p{n % 5}", n=n, sleep=0.002 * (n % 4)) for n in range(300)))
    fleet.until_settled("Three", timeout=PATIENCE_S)

    running = [one.running for one in begun(fleet, "Three")]
    measured(f"of 300 starts {running.count(3)} made it three at once")
    assert len(running) == 300 and max(running) <= 3


# rates


@contextmanager
def admissions(world: World, name: str) -> Iterator[dict[int, int]]:
    """Collect when, by the server's clock, each event's delivery entered a subscriber's window: position -> us."""
    entered: dict[int, int] = {}
    added = re.compile(rf"XADD {re.escape(world.keys('queue', name))} \* f (\d+)")
    listens, last = threading.Event(), uuid.uuid4().hex

    def listen() -> None:
        with redis.Redis.from_url(str(world.settings.redis_url)) as client, client.monitor() as monitor:
            listens.set()
            while last not in (said := monitor.next_command())["command"]:  # it may lag behind
                found = added.match(said["command"])
                if found:
                    entered[int(found[1])] = round(said["time"] * SECOND)

    thread = threading.Thread(target=listen)
    thread.start()
    assert listens.wait(10)
    try:
        yield entered
    finally:
        world.redis.echo(last)
        thread.join(30)


def test_a_rate_holds_in_every_second_across_processes(fleet: World, measured: Callable[[str], None]) -> None:
    forget(fleet, "Paced")
    with admissions(fleet, "Paced") as entered:
        receipts = publish(fleet, *(make("PACED", project=f"p{n % 3}", n=n) for n in range(100)))
        fleet.until_settled("Paced", timeout=PATIENCE_S)
    starts = {one.event_id: one.at_us for one in begun(fleet, "Paced")}

    lateness = [starts[receipt.event_id] - entered[receipt.position] for receipt in receipts]
    late_s = max(lateness) / SECOND
    let_in, started = most_in(list(entered.values())), most_in(list(starts.values()))
    span_s = (max(starts.values()) - min(starts.values())) / SECOND
    measured(
        f"{99 / span_s:.1f} starts a second; in the fullest second {let_in} were let in and {started} began; "
        f"the latest began {late_s:.3f} s after it was let in"
    )
    assert len(entered) == len(starts) == 100
    assert let_in <= 20 + 2
    assert started <= 20 * (1 + late_s) + 2


def test_a_rate_that_is_raised_takes_effect_without_a_restart(fleet: World, measured: Callable[[str], None]) -> None:
    forget(fleet, "Paced")
    steer(fleet.backend.namespace, "Paced", rate_limit=1)
    publish(fleet, *(make("PACED", n=n) for n in range(200)))
    until_begun(fleet, "Paced", 2)

    steer(fleet.backend.namespace, "Paced", rate_limit=400)
    fleet.until_settled("Paced", timeout=PATIENCE_S)
    steer(fleet.backend.namespace, "Paced", rate_limit=CODE)

    times = [one.at_us for one in begun(fleet, "Paced")]
    took_s = (times[-1] - times[0]) / SECOND
    measured(f"200 events at one a second, then at 400: {took_s:.1f} s")
    assert len(times) == 200 and took_s < 100


# urgency and order


def test_the_urgent_goes_first_while_it_is_queued(fleet: World) -> None:
    forget(fleet, "One")
    publish(fleet, make("ONE", n=-1, gate=True))
    until_begun(fleet, "One", 1)

    priorities = [0, 0, -5, 9, 0, 9, -5, 3]
    events = [make("ONE", n=n).model_copy(update={"metadata": {"priority": p}}) for n, p in enumerate(priorities)]
    publish(fleet, *events)
    open_gate(fleet, "One")
    began = until_begun(fleet, "One", 9)

    number = {event.event_id: n for n, event in enumerate(events)}
    assert [number[one.event_id] for one in began[1:]] == [3, 5, 7, 0, 1, 4, 2, 6]


def test_keys_run_in_parallel_and_each_in_order(fleet: World) -> None:
    forget(fleet, "Keyed")
    events = [make("KEYED", project=f"key{n % 8}", n=n, gate=True) for n in range(32)]
    publish(fleet, *events)

    first = until_begun(fleet, "Keyed", 8)
    project = {event.event_id: event.project_id for event in events}
    assert Counter(project[one.event_id] for one in first) == {f"key{n}": 1 for n in range(8)}
    open_gate(fleet, "Keyed")
    fleet.until_settled("Keyed", timeout=PATIENCE_S)

    number = {event.event_id: event.payload["n"] for event in events}
    order = [(project[one.event_id], number[one.event_id]) for one in begun(fleet, "Keyed")]
    for key in range(8):
        assert [n for name, n in order if name == f"key{key}"] == [key, key + 8, key + 16, key + 24]


def test_a_paused_subscriber_finishes_what_runs_and_starts_nothing_more(fleet: World) -> None:
    forget(fleet, "Plain")
    publish(fleet, *(make("PLAIN", n=n, gate=True) for n in range(100)))
    until_begun(fleet, "Plain", 16)

    steer(fleet.backend.namespace, "Plain", paused=True)
    wait_until(lambda: _pending(fleet, "Plain") == 16, 20, "workers to hand back what they have not started")
    open_gate(fleet, "Plain")
    wait_until(lambda: fleet.redis.xlen(fleet.keys("queue", "Plain")) == 0, PATIENCE_S, "what runs to end")
    assert len(begun(fleet, "Plain")) == 16

    steer(fleet.backend.namespace, "Plain", paused=False)
    fleet.until_settled("Plain", timeout=PATIENCE_S)
    assert Counter(one.event_id for one in begun(fleet, "Plain")).total() == 100


def _pending(world: World, name: str) -> int:
    """How many deliveries workers hold."""
    return int(world.redis.xpending(world.keys("queue", name), "fleet")["pending"])
