"""What the store has and nobody finished is delivered again, whatever Redis lost, while a real fleet works."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis

from events.event import Event
from tests.console.command import COMMAND
from tests.fleet.fleet import World
from tests.fleet.test_crashes import repeats, states
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until


@pytest.fixture
def book() -> Iterator[redis.Redis]:
    """Where handlers write down that they ran: a server that is not flushed."""
    with ValkeyServer() as server, server.client() as client:
        client.url = server.url  # type: ignore[attr-defined]
        yield client


def ran(book: redis.Redis, name: str) -> list[str]:
    return [line.split()[0].decode() for line in book.lrange(f"ran:{name}", 0, -1)]  # type: ignore[union-attr]


def start(world: World, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], env=world.environment, cwd=world.tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return out


def is_archived(world: World, events: list[Event]) -> bool:
    return len(world.backend.blackboard.replay.find_all([event.event_id for event in events[-1:]])) == 1 and not (
        world.redis.xlen(world.keys("history"))
    )


def publish_all(world: World, events: list[Event]) -> None:
    for first in range(0, len(events), 200):
        publish(world, *events[first : first + 200])


def test_after_flushall_in_the_middle_of_work_every_event_of_the_store_ends_exactly_once_as_done(
    world: World, book: redis.Redis, measured: Callable[[str], None]
) -> None:
    world.start_fleet(2, BOOK_URL=book.url)  # type: ignore[attr-defined]
    world.start_archiver()
    plain = [make("PLAIN_WORK", n=n, sleep=0.25) for n in range(600)]
    ordered = [make("ORDERED_WORK", f"p{n % 5}", n=n, sleep=0.1) for n in range(300)]
    publish_all(world, plain)
    publish_all(world, ordered)
    wait_until(lambda: is_archived(world, plain) and is_archived(world, ordered), 60, "history to be archived")
    wait_until(lambda: len(ran(book, "Plain")) > 100 and len(ran(book, "Ordered")) > 30, 60, "some of the work")
    assert len(set(ran(book, "Plain"))) < 600, "it is in the middle"

    world.redis.flushall()
    both = [start(world, "doctor", "--repair", "--yes") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]

    wait_until(lambda: states(world, "Plain") == {"done": 600}, 120, f"{states(world, 'Plain')} {said} {world.log()}")
    wait_until(lambda: states(world, "Ordered") == {"done": 300}, 60, f"{states(world, 'Ordered')}; {world.log()}")
    assert "There is nothing to repair." in answer(start(world, "doctor", "--repair", "--yes"))
    assert set(ran(book, "Plain")) == {event.event_id for event in plain}
    measured(repeats("flushed", Counter(ran(book, "Plain"))))
    publish(world, make("PLAIN_WORK", n=600))
    wait_until(lambda: states(world, "Plain") == {"done": 601}, 60, "publishing to go on")


def test_a_redelivery_that_is_killed_in_the_middle_and_asked_for_again_repeats_nothing(world: World) -> None:
    world.start_fleet(2)
    world.start_archiver()
    events = [make("ORDERED_WORK", f"p{n % 5}", n=n) for n in range(400)]
    publish_all(world, events)
    wait_until(lambda: states(world, "Ordered") == {"done": 400}, 90, f"the first time; {world.log()}")
    world.redis.delete("ran:Ordered")

    killed = start(world, "replay", "--to", "Ordered", "--yes", "--rate", "100")
    wait_until(lambda: len(world.order("Ordered")) > 100, 60, f"some of it; {world.log()}")
    killed.kill()
    killed.communicate()
    said = answer(start(world, "replay", "--to", "Ordered", "--yes"))

    assert "Delivered 400 events to Ordered again" in said
    wait_until(lambda: states(world, "Ordered") == {"done": 800}, 90, f"{states(world, 'Ordered')}; {world.log()}")
    assert world.runs("Ordered") == {event.event_id: 1 for event in events}
    number = {event.event_id: int(event.payload["n"]) for event in events}
    order = [number[line.split()[0]] for line in world.order("Ordered")]
    for lane in range(5):
        mine = [n for n in order if n % 5 == lane]
        assert mine == sorted(mine)
