"""`crash_test`: handlers that are idempotent pass, and naive ones are caught at the point that shows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from events.default import publish
from events.errors import Discard, EventBusError, HandlersFailed, InvalidSubscription, NotIdempotent
from events.event import Event
from events.joining import Join
from events.subscriber import EventSubscriber
from events.testing import CrashReport, Killed, TestBus, crash_test, crash_test_async
from store import inbox, outbox


def approved(number: int = 1) -> Event:
    return Event(
        event_id=f"EV-approved-{number}", project_id="P", type="SHOT_APPROVED", actor="User", payload={"shot": number}
    )


@pytest.fixture
def engine(event_bus_kit: TestBus) -> Iterator[Engine]:
    """An application's own engine on the bus's database, with a table of its own."""
    engine = create_engine(event_bus_kit.database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE charges (shot INTEGER, amount INTEGER)"))
        connection.execute(text("CREATE TABLE totals (amount INTEGER)"))
        connection.execute(text("INSERT INTO totals VALUES (0)"))
    yield engine
    engine.dispose()


@pytest.fixture
def state(engine: Engine) -> Callable[[], object]:
    def rows() -> object:
        with engine.connect() as connection:
            charges = connection.execute(text("SELECT shot, amount FROM charges ORDER BY shot")).all()
            return {"charges": charges, "total": connection.execute(text("SELECT amount FROM totals")).scalar()}

    return rows


class Biller(EventSubscriber):
    async def handle_event(self, event: Event) -> None:
        pass


def differing(report: CrashReport) -> list[str]:
    return [one.what.partition(", test_crash")[0] for one in report.tried if one.differences]


# handlers that are idempotent


def test_effects_behind_the_inbox_with_what_follows_in_the_outbox_are_idempotent(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    def bill(event: Event) -> None:
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                session.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)
                outbox.add(session, event.caused("SHOT_BILLED", cost=0.04))

    report = crash_test(bill, [approved(1), approved(2)], bus=event_bus_kit, state=state)

    report.raise_if_not()
    assert report.is_idempotent
    assert [one.what.partition(",")[0].rpartition(" (")[0] or one.what for one in report.tried] == [
        "killed before commit 1",
        "killed after commit 1",
        "killed at the end of the handler, before that is settled",
        "killed before commit 2",
        "killed after commit 2",
        "killed at the end of the handler, before that is settled",
        "the same delivery again after it was done",
        "the events in reverse order",
    ]
    assert ", test_crash_test.py:" in report.tried[0].what
    assert " in bill" in report.tried[0].what


def test_an_upsert_and_returned_events_are_idempotent(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    async def bill(event: Event) -> list[Event]:
        def charge() -> None:
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM charges WHERE shot = :shot"), event.payload)
                connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)

        await asyncio.to_thread(charge)
        return [event.caused("SHOT_BILLED"), event.caused("COST_NOTED")]

    crash_test(bill, approved(), bus=event_bus_kit, state=state).raise_if_not()


def test_publishing_under_an_id_made_from_the_event_is_idempotent() -> None:
    def bill(event: Event) -> None:
        publish(Event(event_id=f"{event.event_id}-billed", type="SHOT_BILLED"))
        publish(Event(event_id=f"{event.event_id}-noted", type="COST_NOTED"))

    report = crash_test(bill, approved())

    report.raise_if_not()
    assert len(report.tried) == 2 * 2 + 1 + 1
    assert str(report).startswith("bill is idempotent, as far as 6 disturbed runs tell:\n  the same ")


def test_an_effect_and_its_event_that_are_random_and_happen_once_are_idempotent(
    event_bus_kit: TestBus, engine: Engine
) -> None:
    def bill(event: Event) -> None:
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                random = Event(type="SHOT_BILLED").event_id
                outbox.add(session, event.caused("SHOT_BILLED", payload={"receipt": random}))

    crash_test(bill, approved(), bus=event_bus_kit).raise_if_not()


# handlers that are not


def test_a_row_without_the_inbox_is_doubled_after_its_commit(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    def bill(event: Event) -> Event:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)
        return event.caused("SHOT_BILLED")

    report = crash_test(bill, approved(), bus=event_bus_kit, state=state)

    assert differing(report)[0].startswith("killed after commit 1 (to ")
    assert "killed before commit" not in " ".join(differing(report))
    assert "the same delivery again after it was done" in differing(report)
    with pytest.raises(NotIdempotent, match=r"(?s)bill is not idempotent: 3 of 4 .*\n    \+ .*inbox\.once\(session\)"):
        report.raise_if_not()


def test_publishing_with_random_ids_doubles_the_event_after_its_publish() -> None:
    async def bill(event: Event) -> None:
        publish(event.caused("SHOT_BILLED"))

    report = crash_test(bill, approved())

    assert differing(report)[0] == "killed after publish 1 (of SHOT_BILLED)"
    assert report.first is not None
    assert [line.split()[0:2] for line in report.first.differences.lines()][1] == ["+", "SHOT_BILLED"]
    assert "event_id=f'{event.event_id}-billed'" in str(report)


def test_an_effect_that_is_found_done_and_whose_event_is_then_not_published_is_missed(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    def bill(event: Event) -> None:
        with engine.begin() as connection:
            if connection.execute(text("SELECT 1 FROM charges WHERE shot = :shot"), event.payload).first():
                return
            connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)
        event_bus_kit.publish_sync(event.caused("SHOT_BILLED"))

    report = crash_test(bill, approved(), bus=event_bus_kit, state=state)

    assert [what.partition(" (")[0] for what in differing(report)] == [
        "killed after commit 1",
        "killed before publish 1",
    ]
    assert "\n    - SHOT_BILLED EV-" in str(report)
    assert "outbox.add in the transaction of the effect" in str(report)


def test_two_transactions_are_caught_between_them(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    def bill(event: Event) -> None:
        with Session(engine) as session, session.begin():
            if not inbox.once(session):
                return
            session.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)
        with Session(engine) as session, session.begin():
            session.execute(text("UPDATE totals SET amount = amount + 4"))

    report = crash_test(bill, approved(), bus=event_bus_kit, state=state)

    assert [what.partition(" (")[0] for what in differing(report)] == [
        "killed after commit 1",
        "killed before commit 2",
    ]


def test_a_counter_of_costs_is_caught_by_a_kill_at_the_end_and_by_a_second_delivery() -> None:
    spent = []

    def bill(event: Event) -> Event:
        spent.append(0.04)
        return event.caused("SHOT_BILLED", cost=0.04)

    report = crash_test(bill, approved(), setup=spent.clear, state=lambda: sum(spent))

    assert differing(report) == [
        "killed at the end of the handler, before that is settled",
        "the same delivery again after it was done",
    ]


def test_an_effect_that_cannot_be_repeated_ends_as_a_dead_letter_and_is_caught(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX one_per_shot ON charges (shot)"))

    def bill(event: Event) -> Event:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)
        return event.caused("SHOT_BILLED")

    report = crash_test(bill, approved(), bus=event_bus_kit, state=state)

    assert differing(report)[0].startswith("killed after commit 1")
    assert "+ bill dead SHOT_APPROVED EV-approved-1: IntegrityError" in str(report)


def test_what_depends_on_the_order_of_events_is_caught_unless_the_bus_keeps_it(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    def note(event: Event) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE totals SET amount = :shot"), event.payload)

    free = crash_test(note, [approved(1), approved(2)], bus=event_bus_kit, state=state)
    ordered = crash_test(note, [approved(1), approved(2)], bus=event_bus_kit, state=state, ordering="project")

    assert differing(free) == ["the events in reverse order"]
    assert "let the bus keep it for each key (ordering='project')" in str(free) and "inbox.once" not in str(free)
    assert ordered.notes == ("The order was not reversed: the bus keeps it for each key (ordering='project').",)


# how it kills


def test_a_handler_that_swallows_its_death_does_nothing_more(
    event_bus_kit: TestBus, engine: Engine, state: Callable[[], object]
) -> None:
    caught: list[BaseException] = []

    def bill(event: Event) -> Event:
        with contextlib.suppress(BaseException):
            publish(Event(event_id=f"{event.event_id}-billed", type="SHOT_BILLED"))
        try:
            with engine.begin() as connection:
                connection.execute(text("UPDATE totals SET amount = 4"))
        except BaseException as error:
            caught.append(error)
        return event.caused("COST_NOTED")

    report = crash_test(bill, approved(), bus=event_bus_kit, state=state)

    report.raise_if_not()
    assert len(report.tried) == 6
    assert [type(error) for error in caught] == [Killed] * 4, "at the commit, and before it by the publish"


def test_a_handler_that_makes_something_else_of_its_death_has_not_decided_anything() -> None:
    def bill(event: Event) -> None:
        try:
            publish(Event(event_id=f"{event.event_id}-billed", type="SHOT_BILLED"))
        except BaseException as error:
            raise Discard("it went wrong") from error

    crash_test(bill, approved()).raise_if_not()


def test_a_batch_and_a_join_are_killed_too() -> None:
    def batch(events: list[Event]) -> None:
        for event in events:
            publish(event.caused("NOTED", actor="batch"))

    def join(event: Event, joined: object) -> Event:
        publish(event.caused("NOTED"))
        return event.caused("CUT")

    for handler, options in ((batch, {"batch": 10}), (join, {"join": Join(("IMAGE_GENERATED",))})):
        report = crash_test(handler, approved(), **options)
        assert differing(report)[0] == "killed after publish 1 (of NOTED)"
        assert len(report.tried) == 4


def test_an_async_session_is_killed_at_its_commits_too(event_bus_kit: TestBus) -> None:
    pytest.importorskip("aiosqlite", reason="Not run: aiosqlite and greenlet are not installed.")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    url = event_bus_kit.database_url.replace("sqlite://", "sqlite+aiosqlite://")

    async def run() -> CrashReport:
        engine = create_async_engine(url)

        async def bill(event: Event) -> None:
            async with AsyncSession(engine) as session, session.begin():
                if await session.run_sync(inbox.once):
                    await session.run_sync(outbox.add, event.caused("SHOT_BILLED"))

        report = await crash_test_async(bill, approved(), bus=event_bus_kit)
        await engine.dispose()
        return report

    report = asyncio.run(run())
    report.raise_if_not()
    assert len(report.tried) == 4


def test_an_async_test_awaits_it_and_state_and_setup_may_be_async(event_bus_kit: TestBus) -> None:
    seen: list[str] = []

    async def note(event: Event) -> None:
        await event_bus_kit.publish(event.caused("NOTED"))
        seen.append(event.event_id)

    async def begin() -> None:
        seen.clear()

    async def state() -> set[str]:
        return set(seen)

    async def run() -> CrashReport:
        with pytest.raises(EventBusError, match="await crash_test_async"):
            crash_test(note, approved())
        return await crash_test_async(note, approved(), bus=event_bus_kit, setup=begin, state=state)

    report = asyncio.run(run())

    assert differing(report) == [
        "killed after publish 1 (of NOTED)",
        "killed at the end of the handler, before that is settled",
        "the same delivery again after it was done",
    ]


def test_the_bus_and_its_database_are_as_they_were(event_bus_kit: TestBus, engine: Engine) -> None:
    class Billing(EventSubscriber):
        def handle_event(self, event: Event) -> None:
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)

    event_bus_kit.subscribe(Billing(), ["SHOT_APPROVED"])
    event_bus_kit.publish_sync(approved(1))
    event_bus_kit.run_until_idle_sync()

    assert len(crash_test("Billing", approved(2), bus=event_bus_kit).tried) == 4

    with engine.connect() as connection:
        assert connection.execute(text("SELECT shot FROM charges")).scalars().all() == [1]
    assert [event.event_id for event in event_bus_kit.events()] == ["EV-approved-1"]
    event_bus_kit.publish_sync(approved(3))
    event_bus_kit.run_until_idle_sync()
    assert [one.state for one in event_bus_kit.deliveries("Billing")] == ["done", "done"]


# mistakes


def test_a_handler_that_fails_undisturbed_is_told_as_that() -> None:
    def bill(event: Event) -> None:
        raise ValueError("no price")

    with pytest.raises(HandlersFailed, match=r"bill gave up SHOT_APPROVED EV-approved-1 after 5 attempts: .*no price"):
        crash_test(bill, approved())
    with pytest.raises(HandlersFailed, match="succeeds when left alone") as failed:
        crash_test(bill, approved())
    assert "run_until_idle" not in str(failed.value), "that is of no use here"


def test_a_state_that_is_never_the_same_is_told_as_that() -> None:
    seen: list[str] = []

    def bill(event: Event) -> None:
        seen.append(event.event_id)

    with pytest.raises(EventBusError, match=r"(?s)after each undisturbed run.*\n  \+ .*or let setup= begin anew"):
        crash_test(bill, approved(), state=lambda: list(seen))


def test_what_is_no_handler_or_no_event_is_refused(event_bus_kit: TestBus) -> None:
    with pytest.raises(InvalidSubscription, match="'Nobody' is no handler"):
        crash_test("Nobody", approved(), bus=event_bus_kit)
    with pytest.raises(TypeError, match="not empty"):
        crash_test(print, [])
    with pytest.raises(InvalidSubscription, match=r"Biller is a class: pass an agent made of it, Biller\(\)\."):
        crash_test(Biller, approved())


def test_an_event_that_the_subscriber_does_not_get_is_refused_at_once(event_bus_kit: TestBus) -> None:
    event_bus_kit.subscribe(Biller(), ["SHOT_PLANNED", "QA_REPORT"])

    with pytest.raises(InvalidSubscription, match=r"Biller gets no SHOT_APPROVED .* but SHOT_PLANNED, QA_REPORT"):
        crash_test("Biller", approved(), bus=event_bus_kit, deadline_s=60)


# what is compared without a state


def test_rows_of_the_applications_tables_are_counted_where_no_state_is_given(
    event_bus_kit: TestBus, engine: Engine
) -> None:
    def bill(event: Event) -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO charges VALUES (:shot, 4)"), event.payload)

    report = crash_test(bill, approved(), bus=event_bus_kit)

    assert differing(report)[0].startswith("killed after commit 1 (to ")
    assert "{'charges': 2, 'totals': 1}" in str(report)
    assert "how many rows charges, totals has were compared: give state= to compare" in report.notes[-1]


def test_tables_that_are_never_alike_are_left_out_and_named(event_bus_kit: TestBus, engine: Engine) -> None:
    runs = count()

    def note(event: Event) -> None:
        number = next(runs)
        with Session(engine) as session, session.begin():
            if inbox.once(session):
                session.execute(text("INSERT INTO charges VALUES (1, 4)"))
            for _ in range(number):
                session.execute(text("INSERT INTO totals VALUES (1)"))

    report = crash_test(note, approved(), bus=event_bus_kit)

    assert report.is_idempotent
    assert "how many rows charges has" in report.notes[0]
    assert report.notes[1].startswith("Rows of totals were not counted")


def test_what_nobody_compared_is_said(tmp_path: Path) -> None:
    def append(event: Event) -> None:
        with (tmp_path / "charges").open("a") as file:
            file.write("4")

    report = crash_test(append, approved())

    assert str(report).endswith(
        "Only events and how deliveries ended were compared: give state= to compare what the handler does elsewhere."
    )
    charges = tmp_path / "charges"
    told = crash_test(append, approved(), state=charges.read_text, setup=lambda: charges.unlink(missing_ok=True))
    assert not told.is_idempotent and not told.notes
