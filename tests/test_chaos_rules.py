"""Each rule of the checker seen to fail: evidence that breaks it, beside evidence that does not."""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, Table

from store.engine import open_engine
from store.tables import delivery_statistics, event_statistics
from tests.chaos.cast import Exit, Signalled
from tests.chaos.check import RULES, statistics_differ
from tests.chaos.evidence import Evidence
from tests.chaos.plan import briefs
from tests.chaos.stage import NAMESPACE
from tests.servers import migrate


def broken(rule: str, *, stage: dict[str, Any] | None = None, **found: Any) -> list[str]:
    """Return what a rule says of evidence that is empty but for what is given."""
    evidence = Evidence.__new__(Evidence)
    nothing: dict[str, Any] = {name: [] for name in ("journal", "events", "outcomes", "deliveries", "effects")}
    nothing |= {"acknowledged": {}, "of": {}, "lost": {}, "blamed": set(), "stored": Counter()}
    nothing |= {"caused": defaultdict(list), "_lost_of": defaultdict(list)}
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
