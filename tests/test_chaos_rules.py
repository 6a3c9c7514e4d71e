"""Each rule of the checker seen to fail: evidence that breaks it, beside evidence that does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table

from store.engine import open_engine
from store.tables import delivery_statistics, event_statistics
from tests.chaos.check import statistics_differ
from tests.chaos.evidence import given_up_for_deaths
from tests.chaos.imagined import broken
from tests.chaos.losses import Loss
from tests.chaos.plan import briefs
from tests.chaos.stage import NAMESPACE
from tests.chaos.unfinished import Unfinished
from tests.servers import migrate


@pytest.mark.parametrize("rule", ["stored once", "returned once", "joined once"])
def test_what_the_store_lacks_is_told_and_breaks_no_rule_that_looks_for_what_it_caused(rule: str) -> None:
    lacking = [brief for brief in islice(briefs(1), 50) if not brief.shots or rule != "returned once"]

    acknowledged = {brief.event_id: {"number": brief.number} for brief in lacking}

    assert bool(broken(rule, acknowledged=acknowledged)) == (rule == "stored once")


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
    row |= {name: "{}" for name in row if name.endswith("_bins") or name == "cost_micros"}
    row |= {name: 0 for name in row if name.endswith("_us")} | {name: 1 for name in row if name in ("events", "done")}
    return row | {name: datetime.now(UTC) for name in row if name.endswith("_time")}


@pytest.mark.parametrize("table", [event_statistics, delivery_statistics], ids=lambda table: table.name)
def test_a_wrong_row_in_either_table_of_statistics_is_told_as_often_as_one_looks(engine: Engine, table: Table) -> None:
    assert not list(statistics_differ(engine))

    with engine.begin() as connection:
        connection.execute(table.insert().values(some_row(table)))

    for _ in range(2):
        assert list(statistics_differ(engine)) == [f"{table.name} differs from adding up again (1 rows)."]


BRIEF = {"event_id": "EV-1-000001", "position": 5, "type": "BRIEF", "payload": {"number": 1}, "project_id": "P0"}


@pytest.mark.parametrize(
    ("agents", "state", "is_broken"),
    [((), "waiting", True), ((), None, True), (("Director",), "waiting", False), (("Director",), "dead", True)],
)
def test_where_a_run_was_cut_off_what_waits_may_end_and_what_redis_has_nothing_of_may_not(
    agents: tuple[str, ...], state: str | None, is_broken: bool
) -> None:
    others = {(5, agent): "done" for agent in ("Doomed", "Editor", "Listener")}
    ends = [{"event_position": 5, "subscriber": agent, "state": "done", "position": 9} for _, agent in others]
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


def test_what_ended_may_end_again_where_redis_forgot_that_very_end() -> None:
    ends = [{"event_position": 5, "subscriber": "Prober", "state": "done", "position": n} for n in (20, 40)]
    found = {"events": [BRIEF | {"type": "PROBE"}], "outcomes": ends, "state": {(5, "Prober"): "done"}}

    assert broken("ended once", **found) == ["Prober ended EV-1-000001 2 times."]
    assert not broken("ended once", stage={"losses": [Loss(30, 1.0, 15, {})]}, **found)
    assert broken("ended once", stage={"losses": [Loss(30, 1.0, 25, {})]}, **found)
    assert broken("ended once", stage={"losses": [Loss(50, 1.0, 45, {})]}, **found)


KILLER = "It killed its worker three times: each time the process died."
USED_UP = "Not started again: max_attempts=2 are used up, and the last one's worker died."


def ended(*states: str, redelivery: int = 0) -> list[dict[str, Any]]:
    """Outcomes of a delivery; a state that is none is the reason of a dead letter."""
    return [
        {
            "event_position": 5, "subscriber": "Doomed", "redelivery": redelivery,
            "state": state if state.islower() else "dead", "error": "" if state.islower() else state,
        }
        for state in states
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "reason", "excused"),
    [
        ("lost lost lost", KILLER, True),
        ("lost lost", KILLER, False),
        ("lost lost", USED_UP, True),
        ("retried lost", USED_UP, True),
        ("lost interrupted lost", USED_UP, True),
        ("lost", USED_UP, False),
        ("lost retried", USED_UP, False),
        ("lost lost lost", USED_UP, False),
        ("lost lost lost", "ValueError: of its own", False),
    ],
)
def test_a_dead_letter_is_excused_only_by_as_many_deaths_as_its_reason_tells(
    before: str, reason: str, excused: bool
) -> None:
    outcomes = ended(*before.split(), reason)

    assert given_up_for_deaths(outcomes) == ({(5, "Doomed")} if excused else set())


def test_deaths_that_redis_forgot_excuse_too_and_those_of_an_earlier_redelivery_do_not() -> None:
    assert given_up_for_deaths(ended("lost", "lost", "lost", USED_UP), forgetful=True)
    assert not given_up_for_deaths(ended("lost", USED_UP), forgetful=True)
    assert not given_up_for_deaths([*ended("lost"), *ended("lost", USED_UP, redelivery=1)])


def order(*spans: tuple[int, int, float, float], refused: int = 0, loss_at: float | None = None) -> list[str]:
    """What is said of Keeper's attempts: of each its process, its event's position, when it began and ended."""
    journal = [
        {"word": word, "pid": pid, "at": at, "event": f"EV-{position}", "delivery": f"{position}:0", "project": "P0"}
        for pid, position, began, ended in spans
        for word, at in (("begins", began), ("ends", ended))
    ]
    done = [
        {"event_position": position, "subscriber": "Keeper", "state": "done", "worker": f"a-host-{pid}-0a1b"}
        for pid, position, *_ in sorted(spans, key=lambda span: span[1])
        if pid != refused
    ]
    events = [BRIEF | {"event_id": f"EV-{position}", "position": position} for _, position, *_ in spans]
    losses = [] if loss_at is None else [Loss(0, loss_at, 0, {})]
    return broken("in order", journal=journal, outcomes=done, events=events, stage={"losses": losses})


def test_no_two_attempts_of_one_project_that_were_settled_overlap_however_long_they_are() -> None:
    long, within, after = (1, 5, 0.0, 2.9), (2, 7, 1.3, 1.4), (2, 8, 3.0, 3.1)

    assert order(long, (2, 6, 1.0, 1.1), within, after) == [
        "Keeper handled EV-5 and EV-6 of P0 at the same time.",
        "Keeper handled EV-5 and EV-7 of P0 at the same time.",
    ]
    assert not order(long, after)
    assert not order(long, within, refused=1)
    assert not order(long, within, loss_at=2.0)


def test_what_ended_after_a_later_event_of_its_project_is_told() -> None:
    ends = [
        {"event_position": position, "subscriber": "Keeper", "state": "done", "worker": "a-host-7-0a1b"}
        for position in (6, 5)
    ]
    events = [BRIEF | {"event_id": f"EV-{position}", "position": position} for position in (5, 6)]

    assert broken("in order", outcomes=ends, events=events) == ["Keeper ended EV-5 of P0 after a later event of it."]


def test_what_kills_is_started_three_times_and_as_often_again_when_redis_forgot() -> None:
    journal = [{"word": "dies", "event": "EV-1", "pid": pid, "at": float(pid)} for pid in (1, 2, 3, 4)]

    assert broken("killers are given up", journal=journal) == ["EV-1, which kills its worker, was started 4 times."]
    assert not broken("killers are given up", journal=journal[:3])
    assert not broken("killers are given up", journal=journal, stage={"losses": [Loss(0, 2.5, 0, {})]})
    assert broken("killers are given up", journal=journal, stage={"losses": [Loss(0, 9.0, 0, {})]})


def test_work_that_waits_and_a_run_in_which_nothing_was_published_are_told() -> None:
    waits = {"quiet_after_s": None, "left": "2 events are in the outbox"}

    assert broken("comes to rest", acknowledged={"EV-1": {}}, stage=waits) == [
        "Processes live and work waits: 2 events are in the outbox."
    ]
    assert broken("comes to rest", stage={"quiet_after_s": 1.0})
    assert not broken("comes to rest", acknowledged={"EV-1": {}}, stage={"quiet_after_s": 1.0})


def letter(raw: str) -> dict[str, str]:
    return {"subscriber": "Painter", "raw": raw, "reason": "it cannot be read"}


def test_each_entry_that_nobody_can_read_is_one_dead_letter_and_nothing_else_is_unreadable() -> None:
    stage = {"poisoned": 2}

    assert not broken("poison is set aside", letters=[letter("1\t2"), letter("not a frame")], stage=stage)
    assert broken("poison is set aside", letters=[letter("1\t2")], stage=stage)
    assert broken("poison is set aside", letters=[letter("1\t2")] * 3, stage=stage)
    assert broken("poison is set aside", letters=[letter("1\t2"), letter("5\t0\t1\tEV-1")], stage=stage)


@pytest.mark.parametrize(("count", "is_broken"), [(0, True), (1, False), (2, True)])
def test_effects_are_there_once_where_their_delivery_is_done(count: int, is_broken: bool) -> None:
    image = BRIEF | {"type": "IMAGE"}
    found = {"events": [image], "effects": [{"event_id": image["event_id"]}] * count}

    assert bool(broken("effects once", state={(5, "Biller"): "done"}, **found)) == is_broken
    assert bool(broken("effects once", state={(5, "Biller"): "waiting"}, **found)) == (count > 1)
