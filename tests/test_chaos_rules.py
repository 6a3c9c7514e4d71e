"""Each rule of the checker seen to fail: evidence that breaks it, beside evidence that does not."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, Table

from events.keys import GROUP, Keys
from store.engine import open_engine
from store.tables import delivery_statistics, event_statistics
from tests.chaos.cast import Exit, Signalled
from tests.chaos.check import RULES, statistics_differ
from tests.chaos.evidence import Evidence
from tests.chaos.plan import briefs
from tests.chaos.remains import left_in_redis, places
from tests.chaos.stage import NAMESPACE
from tests.chaos.unfinished import Unfinished
from tests.servers import migrate


def broken(rule: str, *, stage: dict[str, Any] | None = None, **found: Any) -> list[str]:
    """Return what a rule says of evidence that is empty but for what is given."""
    evidence = Evidence.__new__(Evidence)
    nothing: dict[str, Any] = {name: [] for name in ("journal", "events", "outcomes", "deliveries", "effects")}
    nothing |= {"acknowledged": {}, "of": {}, "lost": {}, "blamed": set(), "stored": Counter()}
    nothing |= {"caused": defaultdict(list), "_lost_of": defaultdict(list), "state": {}, "unfinished": Unfinished()}
    nothing |= {"places": [], "rejected": set()}
    told = {
        "losses": [],
        "suffered": [],
        "deadly": [],
        "lease_s": 2.0,
        "held_up_s": 0.1,
        "seed": 1,
        "probes": [],
        "silent": [],
    } | (stage or {})
    vars(evidence).update(nothing | found, stage=SimpleNamespace(**told))
    return list(RULES[rule](evidence))


LOST = {"state": "lost", "worker": "a-host-7-0a1b"}


@pytest.mark.parametrize(
    ("journal", "is_broken"),
    [
        ([], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 7, "at": 4.0, "seconds": 9.0}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 8, "at": 6.0, "seconds": 9.0}], True),
        ([{"word": "heard", "pid": 7, "at": 5.0}, {"word": "held up", "pid": 7, "at": 6.0, "seconds": 0.9}], False),
    ],
)
def test_a_lease_may_run_out_where_its_own_worker_was_kept_from_running(
    journal: list[dict[str, Any]], is_broken: bool
) -> None:
    assert bool(broken("leases of the living hold", outcomes=[LOST], journal=journal)) == is_broken


@pytest.mark.parametrize("rule", ["stored once", "returned once", "joined once"])
def test_what_the_store_lacks_is_told_and_breaks_no_rule_that_looks_for_what_it_caused(rule: str) -> None:
    lacking = [brief for brief in islice(briefs(1), 50) if not brief.shots or rule != "returned once"]

    acknowledged = {brief.event_id: {"number": brief.number} for brief in lacking}

    assert bool(broken(rule, acknowledged=acknowledged)) == (rule != "returned once")


def test_a_lease_may_run_out_where_a_fault_or_the_drivers_own_lateness_silenced_its_worker() -> None:
    frozen = SimpleNamespace(name="freeze")

    assert not broken("leases of the living hold", outcomes=[LOST], stage={"suffered": [frozen]})
    assert not broken("leases of the living hold", outcomes=[LOST], stage={"held_up_s": 0.9})
    assert broken("leases of the living hold", outcomes=[LOST], stage={"suffered": [SimpleNamespace(name="poison")]})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty store."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def some_row(table: Table) -> dict[str, Any]:
    """A row of a table of statistics, of nothing that is stored."""
    row = {column.name: {"TEXT": ""}.get(str(column.type), 0) for column in table.columns}
    row |= {"namespace": NAMESPACE, "grain": "total", "type": "SHOT"}
    row |= {name: {} for name in row if name.endswith("_bins") or name == "cost_micros"}
    return row | {name: datetime.now(UTC) for name in row if name.endswith("_time")}


@pytest.mark.parametrize("table", [event_statistics, delivery_statistics], ids=lambda table: table.name)
def test_a_wrong_row_in_either_table_of_statistics_is_told_as_often_as_one_looks(engine: Engine, table: Table) -> None:
    assert not list(statistics_differ(engine))

    with engine.begin() as connection:
        connection.execute(table.insert().values(some_row(table)))

    for _ in range(2):
        assert list(statistics_differ(engine)) == [f"{table.name} differs from adding up again (1 rows)."]


def cast_of(folder: Path, *exits: Exit, signalled: tuple[Signalled, ...] = (), log: str = "") -> dict[str, Any]:
    """A stage whose processes have ended like that, and whose supervisor has said so."""
    (folder / "fleet.log").write_text(log)
    return {"cast": SimpleNamespace(folder=folder, exits=list(exits), signalled=list(signalled))}


def test_who_lives_and_does_nothing_is_told() -> None:
    assert broken("everybody works", stage={"silent": ["The worker 7 lives and handles nothing."]})
    assert not broken("everybody works")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_process_that_ends_of_its_own_accord_is_told_and_one_that_was_killed_is_not(
    tmp_path: Path, number: signal.Signals
) -> None:
    stage = cast_of(tmp_path, Exit("archiver-1", 7, 1), signalled=(Signalled(1.0, 7, number),))

    assert bool(broken("nobody ends unasked", stage=stage)) == (number == signal.SIGSTOP)


def test_an_application_that_handled_what_kills_may_end(tmp_path: Path) -> None:
    stage = cast_of(tmp_path, Exit("application", 7, -9))

    assert not broken("nobody ends unasked", stage=stage, journal=[{"word": "dies", "pid": 7}])
    assert broken("nobody ends unasked", stage=stage, journal=[{"word": "dies", "pid": 8}])


@pytest.mark.parametrize(
    ("log", "is_broken"),
    [
        ("Worker process 1 was killed by SIGKILL; a new one starts in 0.5 s.", False),
        ("Worker process 1 was killed by SIGKILL; ...\nWorker process 2 was killed by SIGKILL; ...", True),
        ("Worker process 1 was killed by SIGSEGV; a new one starts in 0.5 s.", True),
        ("Worker process 2 ended with code 1; a new one starts in 0.5 s.", True),
        ("Worker process 2 cannot run the application; stopping.", True),
        ("Worker process 2 ended; a new one starts.\nWorker process 1 ended with code 0; ...", False),
    ],
)
def test_of_worker_processes_no_more_are_killed_than_were_sent_a_signal_and_none_ends_otherwise(
    tmp_path: Path, log: str, is_broken: bool
) -> None:
    stage = cast_of(tmp_path, signalled=(Signalled(1.0, 7, signal.SIGKILL),), log=log)

    assert bool(broken("nobody ends unasked", stage=stage)) == is_broken


BRIEF = {"event_id": "EV-1-000001", "position": 5, "type": "BRIEF", "payload": {"number": 1}, "project_id": "P0"}


@pytest.mark.parametrize(
    ("agents", "state", "is_broken"),
    [((), "waiting", True), ((), None, True), (("Director",), "waiting", False), (("Director",), "dead", True)],
)
def test_where_a_run_was_cut_off_what_waits_may_end_and_what_redis_has_nothing_of_may_not(
    agents: tuple[str, ...], state: str | None, is_broken: bool
) -> None:
    others = {(5, agent): "done" for agent in ("Doomed", "Editor", "Listener")}
    ends = [{"event_position": 5, "subscriber": agent, "state": "done"} for _, agent in others]
    says = broken(
        "ended once",
        events=[BRIEF],
        outcomes=ends,
        state=others | ({(5, "Director"): state} if state else {}),
        unfinished=Unfinished(agents=frozenset(agents)),
    )

    assert says == ([f"Director should have ended EV-1-000001 (BRIEF) as done; it is {state}."] if is_broken else [])


def test_what_was_acknowledged_and_is_on_its_way_may_be_stored_yet() -> None:
    known = {"EV-1-000001": {"number": 1}}

    assert broken("stored once", acknowledged=known)
    assert not broken("stored once", acknowledged=known, unfinished=Unfinished(events=frozenset(known)))


@pytest.mark.parametrize("state", ["done", "waiting"])
def test_what_was_done_has_caused_what_it_returns_and_what_waits_has_not(state: str) -> None:
    shot = BRIEF | {"type": "SHOT"}

    assert bool(broken("returned once", events=[shot], state={(5, "Painter"): state})) == (state == "done")
    image = {"caused": defaultdict(list, {"EV-1-000001": [{"type": "IMAGE"}] * 2})}
    assert broken("returned once", events=[shot], state={(5, "Painter"): state}, **image)


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
        client.set(keys("id", "EV-1-000001"), "5\t\t0\tdigest\t")
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
