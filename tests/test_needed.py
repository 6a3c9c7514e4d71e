"""What pruning asks Redis about the dead letters that are open: their positions, and not what is in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from events.dead_letters import DeadLetters
from events.deliveries import Deliveries
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.needed import open_letters
from events.publisher import Publisher
from events.records import LetterFilter
from events.routes import declare
from events.subscriptions import SubscriberOptions
from workers.attempt import dead

BODY = 100_000
COUNT = 30


@pytest.fixture
def space(redis_url: str, namespace: str) -> Iterator[Namespace]:
    with redis.Redis.from_url(redis_url) as client:
        yield Namespace(client, namespace, lambda: Remembered(0, ()), may_restore=True)


def give_up(space: Namespace, name: str, count: int) -> None:
    """Make so many dead letters of a subscriber, with large bodies."""
    declare(space, Declared(name, (f"FOR_{name}",), SubscriberOptions().record()), 100)
    kind = f"FOR_{name}"
    Publisher(space, 1 << 20, 100).publish_many(
        [Event(type=kind, project_id="p", actor="a", payload={"text": "x" * BODY, "n": n}) for n in range(count)]
    )
    deliveries, left = Deliveries(space, "w", 100), count
    while left:
        leases = deliveries.read([name], left, None)
        deliveries.settle([dead(lease, "no paint", text="traceback " * 100) for lease in leases])
        left -= len(leases)


def test_open_letters_are_told_by_position_and_their_bodies_stay_in_redis(space: Namespace) -> None:
    give_up(space, "Painter", COUNT)
    give_up(space, "Critic", 1)
    space.client.xadd(space.keys("dead", "Painter"), {"f": b"what no delivery is"})
    expected = {
        letter.position: letter.event_position
        for letter in DeadLetters(space).iterate(LetterFilter())
        if letter.event_position
    }
    before = space.client.info("stats")["total_net_output_bytes"]

    found: dict[int, int] = {}
    for page in open_letters(space):
        found |= page

    after = space.client.info("stats")["total_net_output_bytes"]
    assert found == expected and len(found) == COUNT + 1
    assert after - before < BODY, "less than one of the bodies"
