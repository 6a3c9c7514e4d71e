"""Dead letters with a real fleet: what failed is mended, delivered again by the command, and goes on in order."""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import Any

from sqlalchemy import select

from events.event import Event
from store.engine import reading
from store.tables import dead_letters, deliveries, events
from tests.console.command import COMMAND
from tests.fleet.fleet import World
from tests.waiting import wait_until

APP = "tests.fleet.switched:bus"


def made(event_id: str, kind: str = "PRINT", project: str = "p1", **payload: Any) -> Event:
    return Event(event_id=event_id, project_id=project, type=kind, actor="tester", payload=payload)


def command(world: World, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], env=world.environment, cwd=world.tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err
    return out


def letters(world: World, subscriber: str) -> int:
    return int(world.redis.xlen(world.keys("dead", subscriber)))


def finished(world: World, subscriber: str) -> list[str]:
    return [line.split()[0] for line in world.order(subscriber, "finished")]


def test_a_blocked_key_goes_on_in_order_when_what_failed_is_mended_and_retried(world: World) -> None:
    world.start_fleet(2, APP)
    world.start_archiver()
    world.bus.publish_many_sync(
        [
            made("a0"),
            made("a1", needs="paper"),
            made("a2"),
            made("a3"),
            made("b0", project="p2"),
            made("b1", project="p2"),
        ]
    )
    wait_until(lambda: letters(world, "Press") == 1, 30, f"the dead letter; {world.log()}")
    wait_until(lambda: {"a0", "b0", "b1"} <= set(finished(world, "Press")), 30, f"the other key; {world.log()}")
    assert not {"a1", "a2", "a3"} & set(finished(world, "Press"))
    world.bus.publish_sync(made("a4"))

    world.redis.set("paper", 1)
    said = answer(command(world, "dead", "retry", "-s", "Press", "--error", "no paper"))

    assert said == "Retried 1 dead letter.\n"
    wait_until(lambda: "a4" in finished(world, "Press"), 30, f"the key to go on; {world.log()}")
    assert [event_id for event_id in finished(world, "Press") if event_id[0] == "a"] == ["a0", "a1", "a2", "a3", "a4"]
    assert world.runs("Press")["a1"] == 3, "two attempts before, one after"
    wait_until(lambda: stored(world, deliveries, "state").get("done") == 7, 30, f"the archive; {world.log('archiver')}")
    assert stored(world, deliveries, "state") == {"done": 7, "dead": 1}
    assert stored(world, dead_letters, "resolution") == {"retried": 1}
    assert stored(world, events, "type")["PRINTED"] == 7


def test_two_operators_who_retry_everything_at_once_make_each_run_once(world: World) -> None:
    world.start_fleet(2, APP)
    world.start_archiver()
    work = [made(f"c{n}", "COPY", f"p{n % 5}", needs="toner") for n in range(250)]
    world.bus.publish_many_sync(work)
    wait_until(lambda: letters(world, "Copier") == 250, 60, f"the dead letters; {world.log()}")

    world.redis.set("toner", 1)
    both = [command(world, "dead", "retry", "--all", "--json") for _ in range(2)]
    verdicts = Counter(
        line.partition('"verdict": "')[2].partition('"')[0] for process in both for line in answer(process).splitlines()
    )

    assert verdicts["settled"] == 250 and set(verdicts) <= {"settled", "gone"}
    wait_until(lambda: len(finished(world, "Copier")) >= 250, 60, f"everything to run; {world.log()}")
    world.until_settled("Copier", timeout=60)
    assert Counter(finished(world, "Copier")) == {event.event_id: 1 for event in work}
    assert letters(world, "Copier") == 0
    wait_until(lambda: stored(world, dead_letters, "resolution") == {"retried": 250}, 60, "the archive")


def test_what_fails_again_is_a_dead_letter_again_and_the_database_has_both(world: World) -> None:
    world.start_fleet(1, APP)
    world.start_archiver()
    world.bus.publish_sync(made("d0", "COPY", needs="ink"))
    wait_until(lambda: letters(world, "Copier") == 1, 30, f"the dead letter; {world.log()}")

    answer(command(world, "dead", "retry", "d0"))
    wait_until(lambda: world.runs("Copier")["d0"] == 2 and letters(world, "Copier") == 1, 30, "it to fail again")
    answer(command(world, "dead", "discard", "d0", "--reason", "no ink anywhere", "--yes"))

    expected = {"retried": 1, "discarded": 1}
    wait_until(lambda: stored(world, dead_letters, "resolution") == expected, 30, f"{world.log('archiver')}")
    shown = answer(command(world, "dead", "show", "d0"))
    assert shown.count("Dead letter ") == 2 and "no ink anywhere" in shown
    assert shown.count("RuntimeError: no ink") > 4 and "Traceback (most recent call last)" in shown


def stored(world: World, table: Any, column: str) -> dict[str, int]:
    """How many rows have each value."""
    with reading(world.backend.blackboard.engine) as connection:
        return dict(Counter(connection.execute(select(table.c[column])).scalars()))
