"""The soak's own parts that need no fleet: slopes, samples, counting commands, and what it looks for at the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import threading
from array import array
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine, text

from events.settings import Settings
from store.engine import open_engine
from tests.chaos.stage import NAMESPACE
from tests.servers import migrate
from tests.soak import idle
from tests.soak.app import EFFECTS, application, tick
from tests.soak.publisher import Progress, Publisher
from tests.soak.report import as_json, screen
from tests.soak.run import MILD, Soak, Soaked, faults
from tests.soak.samples import Measure, Samples, Track, opened, used_by
from tests.soak.slopes import LEAST_SPAN_S, Trend, theil_sen, trends
from tests.soak.totals import of_the_store
from tests.waiting import wait_until

PATIENCE_S = 60
TICKS = 40


def track(values: list[float], every_s: float = 5.0, begins: float = 0.0) -> Track:
    return Track(array("d", [begins + n * every_s for n in range(len(values))]), array("d", values))


def test_a_slope_is_of_each_process_by_itself_and_bursts_do_not_move_it() -> None:
    rng = random.Random(1)
    first = [1000.0 + 2 * n for n in range(100)]
    second = [5.0 + 2 * n for n in range(60)]
    for n in rng.sample(range(100), 20):
        first[n] += rng.uniform(1e4, 1e6)

    assert theil_sen([track(first), track(second, begins=900.0)]) == pytest.approx(0.4, rel=0.01)


def test_no_two_samples_of_one_process_are_no_slope() -> None:
    with pytest.raises(ValueError, match="takes two samples"):
        theil_sen([track([1.0]), track([2.0])])


@pytest.mark.parametrize(("bytes_per_event", "grows"), [(0, False), (10, False), (66, True)])
def test_what_keeps_every_id_grows_and_what_wavers_does_not(bytes_per_event: int, grows: bool) -> None:
    rng, samples = random.Random(2), Samples()
    for n in range(200):
        warm_up = min(n, 4) * 5e6
        noise = rng.uniform(-5e5, 5e5)
        value = 60e6 + warm_up + noise + 5.0 * n * 500 * bytes_per_event
        samples.add(Measure("worker", "memory"), 7, n * 5.0, value)

    (trend,) = trends(samples, warm_up_s=20.0, events_per_s=500)

    assert trend.is_judged and trend.grows == grows
    assert trend.slope == pytest.approx(bytes_per_event, abs=4)


def test_what_was_seen_too_briefly_is_not_judged_and_who_died_in_its_warm_up_not_counted() -> None:
    samples = Samples()
    for n in range(10):
        samples.add(Measure("archiver", "threads"), 1, n * LEAST_SPAN_S / 10, float(n))
        samples.add(Measure("archiver", "threads"), 2, n * 0.5, float(n))

    (trend,) = trends(samples, warm_up_s=10.0, events_per_s=1)

    assert trend.incarnations == 1 and trend.slope > trend.most
    assert not trend.is_judged and not trend.grows


def test_a_process_that_opens_files_and_starts_threads_is_seen_to(tmp_path: Path) -> None:
    path, before, end = tmp_path / "store.db", used_by(os.getpid()), threading.Event()
    thread = threading.Thread(target=end.wait)

    with path.open("w"), path.open():
        thread.start()
        after = used_by(os.getpid())
        assert opened(path, [os.getpid()]) == 2
    end.set()
    thread.join()

    assert after["memory"] > 1e6
    assert (after["descriptors"] - before["descriptors"], after["threads"] - before["threads"]) == (2, 1)
    assert opened(path, [os.getpid()]) == 0


def test_commands_are_told_to_the_process_that_has_the_connection(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as looking, redis.Redis.from_url(redis_url) as asking:
        asking.ping()

        def ask() -> None:
            for _ in range(25):
                asking.eval("redis.call('PING')", 0)

        sent = idle.commands_by_port(looking, ask)

        port = asking.connection_pool.get_connection()._sock.getsockname()[1]
        assert sent[port] == 25, "what a script calls is not sent"
        assert idle.commands_by_process({port: 25}, idle.owners_of_ports([os.getpid()])) == {os.getpid(): 25}
        assert not idle.commands_by_process(sent, idle.owners_of_ports([1]))


def test_a_look_whose_connection_was_cut_is_no_measurement(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as looking, redis.Redis.from_url(redis_url) as other:

        def cut() -> None:
            (monitor,) = [one for one in other.client_list() if one["cmd"] == "monitor"]
            other.client_kill_filter(_id=monitor["id"])

        with pytest.raises(redis.RedisError):
            idle.commands_by_port(looking, cut)


def test_whose_port_it_is_is_known_while_it_is_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        port = one.getsockname()[1]
        assert idle.owners_of_ports([os.getpid()])[port] == os.getpid()
    assert port not in idle.owners_of_ports([os.getpid()])


# what it publishes, and looks for


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    return Settings(
        redis_url=redis_url, database_url=url, namespace=NAMESPACE, home=str(tmp_path), timeout_s=20, lease_s=60
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_engine(str(settings.database_url), timeout_s=30)
    with engine.begin() as connection:
        connection.execute(text(EFFECTS))
    yield engine
    engine.dispose()


def test_a_publisher_that_is_started_again_goes_on_and_repeats_nothing(settings: Settings, tmp_path: Path) -> None:
    progress, bus = Progress(tmp_path), application(settings)
    Publisher(bus, progress, 1).run(50, 1000)
    assert progress.count == 50

    progress.note(20)  # it was killed before it could note the rest
    Publisher(bus, progress, 1).run(80, 1000)

    assert progress.count == 80
    assert bus.backend.client.xlen(bus.backend.namespace.keys("history")) == 80
    bus.close()


def test_what_must_be_there_is_looked_for(settings: Settings, engine: Engine) -> None:
    async def play() -> None:
        bus = application(settings)
        await bus.start_consuming()
        await bus.publish_many([tick(1, number) for number in range(TICKS)])
        await asyncio.to_thread(wait_until, lambda: not list(of_the_store(engine, TICKS)), PATIENCE_S, "it to be there")
        await bus.stop_consuming()
        await bus.disconnect()

    asyncio.run(play())

    assert len(list(of_the_store(engine, TICKS + 1))) == 3, (
        "an event less, its deliveries, and the effect of what it causes"
    )
    for harm, says in HARM.items():
        with engine.connect() as connection:
            connection.execute(text(harm))
            connection.commit()
        assert says in " ".join(of_the_store(engine, TICKS)), harm


HARM = {
    "INSERT INTO soak_effects SELECT event_id FROM soak_effects LIMIT 1": "there are 5, of 4 events",
    "UPDATE events SET causation_id = (SELECT min(causation_id) FROM events WHERE type = 'TOCK') WHERE type = 'TOCK'": (
        "1 events caused the same more than once"
    ),
    """INSERT INTO outcomes SELECT namespace, position + 999999999, event_position, subscriber, redelivery, attempt + 1,
       state, worker, elapsed_us, error FROM outcomes WHERE subscriber = 'Keeper' AND state = 'done'
       ORDER BY event_position LIMIT 1""": "1 events ended after a later one",
    "UPDATE outcomes SET subscriber = 'Counter' WHERE subscriber = 'Keeper'": "40 deliveries ended more than once",
    "UPDATE deliveries SET state = 'waiting' WHERE subscriber = 'Counter'": "('Counter', 'waiting'): 40",
    "DELETE FROM events WHERE type = 'BILLED'": "The store should have",
}
"""Harm done to what is stored, one after another, and what is said of it."""


# what it asks for, and says


def test_a_seed_gives_the_same_mild_faults_and_leaves_time_between() -> None:
    soak = Soak(events=100_000, seed=3)
    one, other = ([(due, step.name) for due, step in islice(faults(soak), 20)] for _ in range(2))

    assert one == other
    assert {name for _, name in one} <= set(MILD)
    dues = [due for due, _ in one if due != float("inf")]
    assert len(dues) == 16 and all(later - earlier > 25 for earlier, later in pairwise(dues))


def test_as_many_events_come_of_what_is_published_as_were_asked_for() -> None:
    soak = Soak(events=1_200_000)

    assert soak.ticks + 2 * -(-soak.ticks // 10) == 1_200_000


def soaked(**changes: object) -> Soaked:
    trend = Trend("worker", "memory", 80e6, 70.0, "event", 32.0, 2, 900.0)
    idle = {"worker 1": 3.04, "worker 2": 3.2, "archiver 1": 9.0, "application 1": 0.0, "fleet 1": 0.0}
    found = {"trends": (trend,), "idle": idle, "violations": ()}
    return Soaked(Soak(), 833_333, 2000.0, {"kill worker": 5}, **{**found, **changes})  # type: ignore[arg-type]


def test_the_report_names_what_grows_who_is_restless_and_what_is_missing_on_one_screen() -> None:
    found = soaked(violations=("3 deliveries ended more than once.",))

    said = screen(found)

    assert not found.holds
    assert "the memory of worker grows" in said and "worker 2 sends 3.20 commands a second" in said
    assert "worker 1 sends" not in said and "archiver 1 sends" not in said
    assert "application 1 asks nothing of Redis" in said and "fleet 1 asks" not in said, "a supervisor never does"
    assert "3 deliveries ended more than once." in said and len(said.splitlines()) < 40
    assert max(map(len, said.splitlines())) <= 130


def test_a_clean_soak_says_so_and_is_an_object_for_programs() -> None:
    found = soaked(trends=(), idle={"worker 1": 2.6})

    assert found.holds and "every total holds" in screen(found)
    told = json.loads(as_json(found))
    assert told["holds"] and told["faults"] == {"kill worker": 5} and told["soak"]["events"] == 1_000_000
    assert json.loads(as_json(soaked()))["trends"][0]["grows"]


def test_a_soak_that_was_too_short_to_judge_does_not_say_that_nothing_grows() -> None:
    brief = Trend("worker", "memory", 80e6, 70.0, "event", 32.0, 1, LEAST_SPAN_S / 2)
    long = Trend("archiver", "memory", 80e6, 0.0, "event", 32.0, 1, LEAST_SPAN_S)

    said = screen(soaked(trends=(brief, long), idle={"worker 1": 2.6}))

    assert "nothing that could be judged grows (1 of 2 slopes)" in said
