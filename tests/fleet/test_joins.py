"""Joins on a fleet: decided once, with all that was caused, also when workers die on the way."""

from __future__ import annotations

from events.event import Event
from store.filter import EventFilter
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.waiting import wait_until

APP = "tests.fleet.joining:bus"


def films(world: World, kind: str = "FILM") -> list[Event]:
    found = world.backend.blackboard.replay.iterate(EventFilter(types=(kind,)))
    return [recorded.event for recorded in found]


def test_every_script_becomes_one_film_of_all_its_images_although_painters_are_killed(world: World) -> None:
    world.start_fleet(2, app=APP)
    scripts = [make("SCRIPT", shots=n % 7, kill=n % 5 if n % 10 == 3 else None) for n in range(40)]

    publish(world, *scripts)
    wait_until(lambda: len(films(world)) >= len(scripts), 60, f"the films; {world.log()}")
    world.until_settled("Director", "Painter", "Editor", "Strict", timeout=60)

    made = {film.causation_id: film.payload for film in films(world)}
    assert len(films(world)) == len(scripts), "one each"
    for script in scripts:
        wanted = list(range(int(script.payload["shots"])))
        assert made[script.event_id] == {"images": wanted, "why": "complete", "dead": 0}
    assert len(films(world, "STRICT_FILM")) == len(scripts)
    assert list(world.redis.scan_iter(f"{world.keys.prefix}join*")) == []


def test_a_shot_that_cannot_be_painted_is_told_to_one_join_and_makes_a_dead_letter_of_the_other(world: World) -> None:
    world.start_fleet(2, app=APP)
    script = make("SCRIPT", shots=4, fail=2)

    publish(world, script)
    wait_until(lambda: films(world), 30, f"the film; {world.log()}")
    (letter,) = wait_until(lambda: world.dead("Strict", script), 30, f"the dead letter; {world.log()}")

    assert [film.payload for film in films(world)] == [{"images": [0, 1, 3], "why": "dead", "dead": 1}]
    assert letter["r"] == "The join is not complete: 1 delivery of what was set off ended dead."
    assert films(world, "STRICT_FILM") == []
