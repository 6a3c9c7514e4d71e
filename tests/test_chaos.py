"""The checker's own parts that need no servers: scripts of faults, the search for a shorter history, the table."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
import redis

from events import scripts
from events.deliveries import Deliveries
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.subscriptions import SubscriberOptions
from tests.chaos import fixed, proofs
from tests.chaos.check import Violation
from tests.chaos.faults import FAULTS, Fault, Step, script
from tests.chaos.harm import Spared
from tests.chaos.levers import TIME_IN_SCRIPTS
from tests.chaos.mutations import MUTATIONS, plant
from tests.chaos.proofs import TARGETS
from tests.chaos.run import Run, Verdict
from tests.chaos.shrink import Shrinker
from tests.chaos.stage import Stage
from tests.chaos.table import BEGIN, END, make, runs_for
from tests.chaos.tally import Tally

OF_SCRIPTS = [name for name in MUTATIONS if name not in ("ack_before_handling", "lease_never_renewed", "inbox_outside")]


def verdict(run: Run, *rules: str) -> Verdict:
    return Verdict(run, tuple(Violation(rule, "it does not hold") for rule in rules), Tally(), "")


def shrunk(failed: Run, broken: set[int], needs: str = "", budget_s: float = 60.0) -> tuple[Verdict | None, int]:
    """Shrink a failure that takes some faults together, and a kind of work; return it, and how many runs it took."""
    ran: list[Run] = []

    def perform(run: Run) -> Verdict:
        ran.append(run)
        fails = broken <= set(run.steps or ()) and needs not in run.without
        return verdict(run, *(["in order"] if fails else ["leases of the living hold"]))

    return Shrinker(verdict(failed, "in order"), perform, budget_s, lambda said: None).shrink(), len(ran)


def test_a_seed_gives_the_same_faults_with_the_same_numbers() -> None:
    one, other = ([(s.name, s.pause_s, s.rng.random()) for s in islice(script(7, "sqlite"), 50)] for _ in range(2))

    assert one == other
    assert {name for name, _, _ in one} <= {name for name, fault in FAULTS.items() if "sqlite" in fault.databases}


def test_a_fault_that_a_database_cannot_have_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="deadlock can be done to sqlite"):
        next(script(1, "sqlite", ["deadlock"]))


def test_steps_are_those_of_the_whole_script() -> None:
    every = {step.number: step for step in islice(script(3, "sqlite"), 20)}

    some = Run(3, steps=(2, 9)).chosen(most=0)

    assert [(step.number, step.name, step.pause_s) for step in some] == [
        (number, every[number].name, every[number].pause_s) for number in (2, 9)
    ]


@pytest.mark.parametrize("broken", [set(), {4}, {0, 11}, {1, 5, 6}])
def test_the_shortest_history_has_the_faults_that_it_takes_and_no_others(broken: set[int]) -> None:
    smallest, _ = shrunk(Run(seed=1, minutes=1, steps=tuple(range(12))), broken, needs="outbox")

    assert smallest is not None
    assert set(smallest.run.steps or ()) == broken
    assert "outbox" not in smallest.run.without and len(smallest.run.without) == 6
    assert smallest.run.minutes < 0.05
    assert smallest.rules == {"in order"}


def test_a_failure_that_does_not_come_again_has_no_shorter_history() -> None:
    assert shrunk(Run(steps=(1, 2)), broken={77}) == (None, 2)


def test_nothing_is_begun_when_the_time_is_over() -> None:
    assert shrunk(Run(steps=(1, 2)), broken={1}, budget_s=0.0) == (None, 0)


def test_the_command_says_all_that_was_asked_for() -> None:
    run = Run(3, 0.5, "postgres", ("fail over", "kill"), (), ("outbox",), "lost_retry", 3.0)

    assert run.command == (
        "python -m tests.chaos --seed 3 --minutes 0.5 --database postgres --only 'fail over' kill --steps "
        "--without outbox --mutation lost_retry --patience 3"
    )
    assert replace(run, steps=None).command.count("--steps") == 0


@pytest.mark.parametrize("name", OF_SCRIPTS)
def test_what_a_broken_build_breaks_is_still_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = scripts.sources()
    monkeypatch.setattr(scripts, "sources", scripts.sources)

    plant(name)

    assert scripts.sources() != sound


def test_a_broken_build_acknowledges_what_it_reads(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deliveries, "read", Deliveries.read)
    with redis.Redis.from_url(redis_url) as client:
        namespace = Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)
        declare(namespace, Declared("S", ("A",), SubscriberOptions().record()), 100)
        Publisher(namespace, 1 << 20, 100).publish_many([Event(type="A", project_id="p", actor="a")])

        plant("ack_before_handling")
        (lease,) = Deliveries(namespace, "w", 100).read(["S"], 10, None)

        assert lease.event.type == "A"
        assert client.xlen(namespace.keys("queue", "S")) == 0
        assert client.xpending(namespace.keys("queue", "S"), "fleet")["pending"] == 0


def test_every_broken_build_has_a_run_that_catches_it() -> None:
    assert TARGETS.keys() == MUTATIONS.keys()
    assert set(fixed.MUTATIONS) <= TARGETS.keys()


def test_what_is_run_at_every_change_has_the_faults_that_it_must_have() -> None:
    steps = [step for run in fixed.RUNS if run.steps for step in run.chosen(most=0)]

    assert {one.name for step in steps for one in (step, step.beside) if one} >= fixed.FORCED


def test_the_time_in_scripts_is_where_the_lever_is() -> None:
    assert all(text.count(TIME_IN_SCRIPTS) == 1 for text in scripts.sources().values())


def test_the_table_adds_up_the_runs_of_a_fault_and_keeps_the_rest_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    def perform(run: Run) -> Verdict:
        tally = Tally(lost=run.seed, allowed=run.seed, recovery_s=run.seed)
        tally.faults[run.only[0] if run.only else "kill"] += 10
        return replace(verdict(run, *(["in order"] if run.only == ("cut",) else [])), tally=tally)

    assert not make(runs_for([1, 2], 0.1, ["sqlite"]), perform, page, lambda said: None)

    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert "| kill | 20 | 0 | 0 (and 3 that Redis forgot) | 0 | 2.0 s | 2, clean |" in text
    assert "| cut | 20 | 0 | 0 (and 3 that Redis forgot) | 0 | 2.0 s | 2, 2 BROKEN |" in text
    assert "deadlock" not in text and "all, at random" in text


@pytest.mark.parametrize(
    ("rules", "whole", "seconds", "is_proof"),
    [
        (("ended once",), (), 9.0, True),
        (("comes to rest", "returned once"), (), 9.0, False),
        (("ended once",), (), 61.0, False),
        (("ended once",), ("in order",), 9.0, False),
    ],
)
def test_a_broken_build_is_caught_by_its_own_rule_within_a_minute_where_the_whole_build_is_clean(
    monkeypatch: pytest.MonkeyPatch, rules: tuple[str, ...], whole: tuple[str, ...], seconds: float, is_proof: bool
) -> None:
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr(proofs.time, "monotonic", lambda: next(clock))

    assert proofs.prove(["lost_retry"], lambda run: verdict(run, *(rules if run.mutation else whole))) == is_proof


def test_of_five_steps_one_has_a_fault_of_other_parts_beside_it() -> None:
    steps = list(islice(script(1, "postgres"), 500))
    pairs = [(FAULTS[step.name], FAULTS[step.beside.name]) for step in steps if step.beside]

    assert 60 < len(pairs) < 140
    assert not any(one.parts & other.parts for one, other in pairs)


def stage_of(folder: Path) -> Stage:
    """A stage on which there is nothing but time."""
    stage = Stage.__new__(Stage)
    cast = SimpleNamespace(tend=lambda: None)
    vars(stage).update(folder=folder, cast=cast, is_frozen=True, meanwhile=None, suffered=[], held_up=[])
    return stage


def test_a_fault_comes_while_another_lasts_or_after_one_that_is_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting = Fault(1, frozenset(), lambda stage, rng: stage.play(0.0))
    monkeypatch.setitem(FAULTS, "lasting", lasting)
    monkeypatch.setitem(FAULTS, "brief", replace(lasting, harm=lambda stage, rng: None))

    for name, order in (("lasting", ["brief", "lasting"]), ("brief", ["brief", "brief"])):
        stage = stage_of(tmp_path)
        stage.suffer(Step(3, name, Random(1), 0.0, Step(3, "brief", Random(2), 0.0)))
        assert [(one.number, one.name) for one in stage.suffered] == [(3, one) for one in order]


@pytest.mark.parametrize("error", [Spared("Nobody lives."), redis.ConnectionError(), TimeoutError()])
def test_a_fault_of_which_nothing_came_is_no_fault_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def spare(stage: Stage, rng: Random) -> None:
        raise error

    monkeypatch.setitem(FAULTS, "spared", Fault(1, frozenset(), spare))
    stage = stage_of(tmp_path)

    stage.suffer(Step(0, "spared", Random(1), 0.0))

    assert [one.is_done for one in stage.suffered] == [False]
