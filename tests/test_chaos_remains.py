"""The checker's rules about Redis, seen to fail: what is left of what has ended, and where events are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from events.keys import GROUP, Keys
from tests.chaos.imagined import broken
from tests.chaos.remains import left_in_redis, places
from tests.chaos.stage import NAMESPACE

BRIEF = {"event_id": "EV-1-000001", "position": 5}
FLUSHED = SimpleNamespace(clock=6)


@pytest.mark.parametrize(
    ("position", "losses", "is_broken"),
    [(5, [], False), (7, [], True), (7, [FLUSHED], False), (6, [FLUSHED], True), (4, [FLUSHED], True)],
)
def test_an_event_is_where_the_store_has_it_but_for_one_that_was_forgotten_and_published_again(
    position: int, losses: list[Any], is_broken: bool
) -> None:
    found = {"of": {"EV-1-000001": BRIEF}, "places": [("EV-1-000001", position)]}

    assert bool(broken("positions agree", stage={"losses": losses}, **found)) == is_broken


def test_what_redis_remembers_and_the_store_lacks_is_told_unless_it_was_set_aside() -> None:
    assert broken("positions agree", places=[("EV-1-000001", 5)])
    assert not broken("positions agree", places=[("EV-1-000001", 5)], rejected={5})


@pytest.fixture
def remains(redis_url: str) -> Iterator[Any]:
    """A stage of which there is Redis alone, with a subscriber who has nothing to do."""
    with redis.Redis.from_url(redis_url) as client:
        keys = Keys(NAMESPACE)
        client.xgroup_create(keys("queue", "Painter"), GROUP, mkstream=True)
        client.set(keys("clock"), 5)
        client.set(keys("id", "EV-1-000001"), "5\tdigest")
        yield SimpleNamespace(redis=client, keys=keys)


LEFT: dict[str, Callable[[redis.Redis, Keys], Any]] = {
    "keys of the kind join ": lambda client, keys: client.hset(keys("join", "Editor", "5"), "open", 0),
    "keys of the kind joined ": lambda client, keys: client.rpush(keys("joined", "Editor", "5"), "frame"),
    "keys of the kind held ": lambda client, keys: client.hset(keys("held", "Keeper"), "P0", "name"),
    "keys of the kind lane ": lambda client, keys: client.rpush(keys("lane", "Keeper", "P0"), "frame"),
    "keys of the kind suspects ": lambda client, keys: client.hset(keys("suspects", "Painter"), "name", 1),
    "keys of the kind envelopes ": lambda client, keys: client.hset(keys("envelopes"), "EV-1-000001", "body"),
    "keys of the kind that nobody knows ": lambda client, keys: client.set(f"{keys.prefix}stray", 1),
    "beyond the last position": lambda client, keys: client.set(keys("archived"), 6),
    "before the last event's position": lambda client, keys: client.set(keys("clock"), 4),
}


@pytest.mark.parametrize("says", LEFT)
def test_redis_has_nothing_of_what_has_ended(remains: Any, says: str) -> None:
    assert not list(left_in_redis(remains, 5))

    LEFT[says](remains.redis, remains.keys)

    (found,) = left_in_redis(remains, 5)
    assert says in found


def test_an_entry_that_is_gone_and_pending_still_is_left(remains: Any) -> None:
    queue = remains.keys("queue", "Painter")
    entry = remains.redis.xadd(queue, {"f": "frame"})
    remains.redis.xreadgroup(GROUP, "a-host-7-0a1b", {queue: ">"})
    remains.redis.xdel(queue, entry)

    assert list(left_in_redis(remains, 5)) == [f"1 entries of {queue} are pending."]


def test_places_are_those_of_what_redis_remembers(remains: Any) -> None:
    assert list(places(remains)) == [("EV-1-000001", 5)]
