"""The users of docs/operations.md, and what each of them does, step by step, in this process.

A path is a generator of steps: named calls that a role's processes make. It is played as the role's own user; what
other roles and time have to do in between is done by the server's default user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from events import mending, redelivery
from events.backfill import fill, look
from events.dead_letters import DeadLetters
from events.deliveries import Deliveries, Settlement
from events.dropping import drop_step
from events.due import moment, read_due
from events.event import Event
from events.inspection import Inspection
from events.joining import Join
from events.keys import GROUP
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, event_arguments
from events.records import AttemptState, LetterFilter
from events.routes import declare, undeclare
from events.scheduled import ScheduledEvents
from events.slots import Slots
from events.standing import is_declared, standings
from events.steering import steer, until_heeded
from events.stream import HistoryStream
from events.subscriptions import SubscriberOptions
from tests.waiting import wait_until

MIB = 1 << 20
# Refused to every role, who does without: what a driver says of itself, and what `doctor` would like to know.
TOLERATED = {"client|setinfo", "client|maint_notifications", "config|get"}
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
ROLES = ("publisher", "worker", "archiver", "reader", "operator")
# The scripts that a role's processes run. All look with `open`; those that may restore what was lost run the whole of
# it, and a publisher begins with it a namespace in which nobody has subscribed.
SCRIPTS = {
    "publisher": {"publish", "schedule", "cancel"},
    "worker": {
        "open", "publish", "schedule", "cancel", "declare", "settle", "renew", "reap", "promote", "begin", "fill",
        "tail", "release", "plan", "slot",
    },
    "archiver": {"open", "publish", "position", "archived", "release"},
    "reader": {"tail", "agenda", "names"},
    "operator": {
        "open", "tail", "agenda", "names", "position", "cancel", "undeclare", "steer", "drop", "resolve", "redeliver",
        "mend",
    },
}  # fmt: skip


def users() -> dict[str, list[str]]:
    """Return the rules of each role, word by word, as the document has them."""
    text = OPERATIONS.read_text(encoding="utf-8")
    found = {line.split()[1]: line.split()[2:] for line in re.findall(r"^user \w+ on .*$", text, re.MULTILINE)}
    assert set(found) == set(ROLES), sorted(found)
    return found


def commands(role: str) -> list[str]:
    """Return the commands that a role may run, by name."""
    return [word[1:] for word in users()[role] if word.startswith("+")]


def make_user(admin: Any, role: str, namespace: str = "eventbus", *more: str) -> None:
    """Make a role's user on a server, or make it anew; its password is its name.

    Args:
        more: further rules, e.g. `-xadd`.
    """
    told = [f">{role}" if word == ">PASSWORD" else word.replace("eventbus", namespace) for word in users()[role]]
    admin.execute_command("ACL", "SETUSER", role, "reset", *told, *more)


def denied(admin: Any) -> set[tuple[str, str]]:
    """Return who was denied what since the log was emptied, but for what every role does without."""
    told = [{_text(name): _text(value) for name, value in entry.items()} for entry in admin.acl_log()]
    return {(entry["username"], entry["object"]) for entry in told if entry["object"] not in TOLERATED}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Stage:
    """A namespace in which one role plays, and the default user does what others and time have to do.

    Args:
        admin: the default user's client. mine: the role's.
        name: of the namespace, `play:<something>`.
    """

    def __init__(self, admin: Any, mine: Any, name: str) -> None:
        self.admin, self.name = admin, name
        self.remembered: list[Declared] = []
        self.theirs, self.ours = self._namespace(admin), self._namespace(mine)
        self.keys = self.ours.keys
        self.publisher = Publisher(self.theirs, MIB, 100, resend_s=0)
        self.worker = Deliveries(self.theirs, "theirs", 100)

    def _namespace(self, client: Any) -> Namespace:
        return Namespace(client, self.name, lambda: Remembered(0, self.remembered), may_restore=True)

    def declare(self, namespace: Namespace, name: str, *types: str, fills: bool = False, **options: Any) -> None:
        steering = {"state": "backfill", "cursor": "0", "first_redelivery": "1"} if fills else {}
        declare(namespace, Declared(name, types, SubscriberOptions(**options).record(), steering), 100)

    def lose(self, name: str = "S") -> None:
        """Have Redis lose the namespace, and the store remember a subscriber."""
        self.admin.delete(self.keys("meta"), self.keys("sub", name), self.keys("subscribers"), self.keys("queue", name))
        self.remembered = [Declared(name, ("A",), SubscriberOptions().record())]
        self.ours.forget()
        self.theirs.forget()

    def make_awkward(self) -> None:
        """Have the next publish of an `A` do what is rare: whatever hands in Redis, and limits, can bring about."""
        for name, options in {**KINDS, "Shut": {"concurrency": 1}}.items():
            self.declare(self.theirs, name, "A", name, **options)
        self.publish("Few", "Few", "Few", "Shut", "Shut")
        for name in ("Few", "Shut"):  # with room, and more that waits
            self.admin.hset(self.keys("sub", name), mapping={"set_concurrency": 9, "turn": "by hand"})
        for name in ("S", "Shut"):  # behind the last of all ids
            if name == "S":
                self.admin.delete(self.keys("queue", name))
                self.admin.xgroup_create(self.keys("queue", name), GROUP, "0", mkstream=True)
            self.admin.xadd(self.keys("queue", name), {"f": "by hand"}, id="18446744073709551615-18446744073709551615")
        self.admin.xdel(self.keys("queue", "S"), "18446744073709551615-18446744073709551615")
        self.admin.xadd(self.keys("history"), {"e": "by hand"}, id=f"{_later(self)}-0")

    def publish(self, *kinds: str, **fields: Any) -> list[Event]:
        events = [Event(project_id="p", type=kind, actor="x", **fields) for kind in kinds]
        answers = self.publisher.publish_many(events)
        assert not [answer for answer in answers if isinstance(answer, Exception)], answers
        return events

    def dead_letters(self, name: str, count: int) -> None:
        """Have deliveries of an event type of the subscriber's name end as dead letters."""
        self.publish(*[name] * count)
        for lease in self.worker.read([name], count, None):
            self.worker.settle([Settlement(lease, "dead", AttemptState.DEAD, reason="no", output=b"kept")])

    def grow_old(self, name: str) -> None:
        """Make an hour pass for the leases of a subscriber."""
        queue = self.keys("queue", name)
        for lease in self.admin.xpending_range(queue, GROUP, "-", "+", 100):
            self.admin.xclaim(queue, GROUP, lease["consumer"], 0, [lease["message_id"]], idle=3_600_000, justid=True)
        seconds, micros = self.admin.time()
        now = seconds * 1_000_000 + micros
        self.admin.hset(self.keys("sub", name), mapping={"reaped_at": now, "reap_from": 0})


def play_publisher(stage: Stage) -> Iterator[None]:
    """Publish to subscribers of every kind, at once and later, and take back what was to come later."""
    stage.ours.open()
    yield
    stage.declare(stage.theirs, "S", "A")
    stage.declare(stage.theirs, "Keyed", "A", ordering="project")
    stage.declare(stage.theirs, "Few", "A", rate_limit=100, concurrency=1)
    stage.declare(stage.theirs, "Filled", "A", fills=True)
    stage.declare(stage.theirs, "Joins", "A", join=Join(("B",)))
    publisher = Publisher(stage.ours, MIB, 100, resend_s=0)
    root, more = (Event(project_id="p", type="A", actor="x") for _ in range(2))
    yield from _each(publisher.publish_many, [root], [more, more], [root.caused("B", actor="x")])
    stage.make_awkward()
    yield from _each(publisher.publish_many, [Event(project_id="p", type="A", actor="x")])
    later = [Event(project_id="p", type="A", actor="x") for _ in range(2)]
    publisher.publish_many(later, dues=[read_due(3600, None)] * 2)  # type: ignore[list-item]
    yield
    publisher.publish_many([later[1].caused("B", actor="x")])
    yield
    scheduled = ScheduledEvents(stage.ours, 100)
    yield from _each(scheduled.know, [later[0].event_id])
    yield from _each(scheduled.cancel, [later[0].event_id])


def play_worker(stage: Stage) -> Iterator[None]:
    """Declare, read, renew, settle in every way, take over, fill, and publish what is due."""
    stage.ours.open()
    yield
    worker = Deliveries(stage.ours, "ours", 100)
    for name, options in KINDS.items():
        stage.declare(stage.ours, name, "A", name, **options)
        yield
    stage.publish("A", "A", "A", "Keyed", "Keyed", "Few", "Few")
    worker.promote(dict.fromkeys(KINDS, 3), beat="{}")
    yield
    leases = worker.read(list(KINDS), 3, None)
    yield
    worker.renew(leases)
    yield
    returned = [event_arguments(leases[0].event.caused("A", actor="x"), MIB)]
    ends: list[dict[str, Any]] = [
        {"action": "end", "state": AttemptState.DONE, "events": returned},
        {"action": "again", "state": AttemptState.RETRIED, "attempts": 1, "delay_us": 1},
        {"action": "again", "state": AttemptState.RETRIED, "attempts": 1},
        {"action": "again", "state": None},
        {"action": "dead", "state": AttemptState.DEAD, "reason": "no", "output": b"kept"},
    ]
    for number, lease in enumerate(leases):
        worker.settle([Settlement(lease, **ends[number % len(ends)])])
        yield
    worker.promote(dict.fromkeys(KINDS, 3), beat="{}")
    yield
    worker.read(list(KINDS), 100, None)
    for name in KINDS:
        stage.grow_old(name)
    suspects = worker.reap(list(KINDS), 1000, 100)
    yield
    for lease in suspects:
        worker.begin(lease)
        worker.settle([Settlement(lease, "again", None), Settlement(lease, "end", AttemptState.DONE)])
        yield
    stage.admin.zadd(stage.keys("workers"), {"gone": 1})
    for name in KINDS:
        stage.admin.xgroup_createconsumer(stage.keys("queue", name), GROUP, "gone")
        stage.grow_old(name)
    stage.admin.pexpire("nothing", 1)
    _wait_for_idle(stage)
    worker.reap(list(KINDS), 1, 0, sweep=True)
    yield
    for name, ordering in (("Filled", None), ("FilledKeyed", "project")):
        stage.declare(stage.ours, name, "A", fills=True, ordering=ordering)
        yield
        stage.publish("A", "A")
        place = look(stage.ours, name)
        page = HistoryStream(stage.ours).after(place.cursor, 100)
        yield
        wanted = [one for one in page.events if one.type == "A"]
        fill(stage.ours, name, place, page.last_position, wanted[:1], is_end=False)
        fill(stage.ours, name, look(stage.ours, name), page.last_position, [], is_end=True)
        yield
    yield from _later_and_crons(stage)
    for lease in worker.read(["Joins"], 10, None):
        worker.joined(lease)
        yield
    worker.leave(list(KINDS))
    yield
    stage.make_awkward()
    Publisher(stage.ours, MIB, 100, resend_s=0).publish_many([Event(project_id="p", type="A", actor="x")])
    yield
    stage.declare(stage.ours, "Few", "A", "Few", rate_limit=0.001, concurrency=1)  # takes back what is ready
    yield
    stage.declare(stage.ours, "S", "A", "S")
    yield
    stage.lose()
    stage.ours.open()
    yield
    Inspection(stage.ours).server()
    yield


KINDS: dict[str, dict[str, Any]] = {
    "S": {}, "Keyed": {"ordering": "project"}, "Few": {"rate_limit": 1000, "concurrency": 1},
    "Blocks": {"ordering": "project", "on_dead": "block"}, "Joins": {"join": Join(("B",))},
}  # fmt: skip


def _later_and_crons(stage: Stage) -> Iterator[None]:
    yield from _due(stage)
    slots = Slots(stage.ours, 100)
    plan = slots.plan("nightly", "* * * * *", "UTC", "all", begins=True)
    yield
    stage.admin.hset(stage.keys("slots", "nightly"), "cursor", "1000000")
    plan = slots.plan("nightly", "* * * * *", "UTC", "all", begins=True)
    one = [event_arguments(Event(project_id="p", type="A", actor="x"), MIB)]
    slots.fire("nightly", plan.cursor, moment(60_000_000), one, cron="* * * * *", timezone="UTC")
    yield


def play_archiver(stage: Stage) -> Iterator[None]:
    """Read history and outcomes, tell Redis how far SQL is, lift the clock, publish what is due and in the outbox."""
    stage.ours.open()
    yield
    for name, options in KINDS.items():
        stage.declare(stage.theirs, name, "A", name, **options)
    events = stage.publish("A", "A")
    for lease in stage.worker.read(["S"], 1, None):
        stage.worker.settle([Settlement(lease, "end", AttemptState.DONE)])
    history = HistoryStream(stage.ours)
    for read in (lambda: history.entries_after("history", "0-0", 10), history.clock_and_archived, history.clock):
        read()
        yield
    position, _ = history.clock_and_archived()
    ids = [event.event_id for event in events]
    yield from _each(
        lambda stream: history.note_archived(stream, position, position - 1, 60, ids), "history", "outcomes"
    )
    yield from _each(history.lift, position + 1000)
    stage.publish("S")
    stage.admin.set(stage.keys("id", ids[0]), "1\tx\t\t0\t\tJoins/1")  # a join waits for what it causes
    history.note_archived("history", history.clock(), 0, 60, ids)
    yield
    stage.make_awkward()
    Publisher(stage.ours, MIB, 100, resend_s=0).publish_many([Event(project_id="p", type="A", actor="x")])
    yield
    yield from _due(stage)
    stage.lose()
    stage.ours.open()
    yield


def _due(stage: Stage) -> Iterator[None]:
    due = Event(project_id="p", type="A", actor="x")
    stage.publisher.publish_many([due], dues=[read_due(3600, None)])  # type: ignore[list-item]
    stage.admin.zadd(stage.keys("scheduled"), {due.event_id: 1})
    ScheduledEvents(stage.ours, 100).release(10)
    yield


def play_reader(stage: Stage) -> Iterator[None]:
    """Ask everything that there is to ask, and change nothing."""
    fill_with_life(stage)
    seen, history, scheduled = Inspection(stage.ours), HistoryStream(stage.ours), ScheduledEvents(stage.ours, 100)
    letters = DeadLetters(stage.ours)
    for ask in (
        seen.server, seen.epoch, seen.subscribers, seen.queues, seen.workers, seen.lags, seen.backlog,
        lambda: standings(stage.ours), lambda: history.after(0, 100), lambda: history.missing([5]),
        lambda: history.entries_after("outcomes", "0-0", 10), history.clock_and_archived,
        lambda: history.length("history"),
        lambda: list(scheduled), scheduled.agenda, lambda: scheduled.know(["EV-1"]), Slots(stage.ours, 100).all,
        letters.subscribers, lambda: list(letters.iterate(LetterFilter())),
        lambda: letters.holders(list(letters.iterate(LetterFilter()))), lambda: mending.lanes(stage.ours),
        lambda: [mending.ground(stage.ours, name) for name in KINDS],
        lambda: [mending.present(stage.ours, name, {"p"}) for name in KINDS],
        lambda: [mending.holds(stage.ours, name) for name in KINDS],
        lambda: [mending.unlisted(stage.ours, name, ["p"]) for name in KINDS],
        lambda: redelivery.under_way(stage.ours, list(KINDS)),
    ):  # fmt: skip
        ask()
        yield


def play_operator(stage: Stage) -> Iterator[None]:
    """Pause, limit, retry, purge, redeliver, repair and drop, and whatever a reader asks."""
    yield from play_reader(stage)
    for changes in (
        {"paused": True},
        {"paused": False},
        {"concurrency": 1},
        {"rate_limit": 0.001},
        {"rate_limit": None},
    ):
        for name in ("S", "Keyed"):
            steer(stage.ours, name, **changes)
            yield
    until_heeded(stage.ours, "Joins", 0)
    yield from _each(lambda name: is_declared(stage.ours, name), "S")
    letters = DeadLetters(stage.ours)
    for decision in ("redelivered", "discarded", "purged"):
        for name in KINDS:
            found = list(letters.iterate(LetterFilter(subscribers=(name,))))
            letters.decide(decision, found[:1], "me", "why")  # type: ignore[arg-type]
            yield
    for name in ("S", "Keyed", "Few"):
        under = redelivery.begin(stage.ours, name, 5, 0, "all")
        yield
        page = HistoryStream(stage.ours).after(0, 100)
        redelivery.hand_over(stage.ours, name, under, page.last_position, page.events, "me", "why")
        yield
    yield from _repairs(stage)
    scheduled = ScheduledEvents(stage.ours, 100)
    yield from _each(scheduled.cancel, [waiting.event_id for waiting in scheduled])
    Slots(stage.ours, 100).forget("nightly")
    yield
    yield from _each(lambda name: undeclare(stage.ours, name, ["A"]), "S")
    yield from _each(lambda _: HistoryStream(stage.ours).next_position(), 1)
    for name in KINDS:
        while not drop_step(stage.ours, name, force=True, dead_letters=True, most=3).is_gone:
            yield
    stage.lose()
    stage.ours.open()
    yield


def _repairs(stage: Stage) -> Iterator[None]:
    for name in ("S", "Keyed"):
        stage.declare(stage.theirs, name, "A", name, **KINDS[name])
        stage.publish("A", "A", "A")
        page = HistoryStream(stage.theirs).after(0, 100)
        stage.admin.delete(stage.keys("queue", name), stage.keys("held", name))
        stage.admin.xgroup_create(stage.keys("queue", name), GROUP, "0", mkstream=True)
        lost = [(9, one) for one in page.events if one.type == "A"]
        mending.mend(stage.ours, name, mending.ground(stage.ours, name).mends, lost, {"p": (1, 0)}, ["p"])
        yield


def fill_with_life(stage: Stage) -> None:
    """Leave something of every kind: ready, running, waiting, delayed, scheduled, dead, joined, planned."""
    for name, options in KINDS.items():
        stage.declare(stage.theirs, name, "A", name, **options)
        stage.dead_letters(name, 3) if name != "Joins" else None
    stage.publish(*["A"] * 5)
    stage.worker.promote({"S": 1}, beat="{}")
    for lease in stage.worker.read(["S", "Keyed"], 2, None):
        stage.worker.settle([Settlement(lease, "again", AttemptState.RETRIED, attempts=1, delay_us=10**9)])
    stage.worker.read(["S"], 1, None)
    stage.publisher.publish_many(
        [Event(project_id="p", type="A", actor="x", event_id=f"EV-later-{n}") for n in range(2)],
        dues=[read_due(3600, None)] * 2,  # type: ignore[list-item]
    )
    Slots(stage.theirs, 100).plan("nightly", "* * * * *", "UTC", "all", begins=True)


def _each(call: Callable[[Any], object], *arguments: Any) -> Iterator[None]:
    for argument in arguments:
        call(argument)
        yield


def _later(stage: Stage) -> int:
    seconds, micros = stage.admin.time()
    return int(seconds * 1_000_000 + micros + 1_000_000)


def _wait_for_idle(stage: Stage) -> None:
    """Wait until consumers have been idle for ten leases of a millisecond."""
    wait_until(lambda: stage.admin.xinfo_consumers(stage.keys("queue", "S"), GROUP)[0]["idle"] > 20, 5, "idleness")


PLAYS = {
    "publisher": play_publisher, "worker": play_worker, "archiver": play_archiver, "reader": play_reader,
    "operator": play_operator,
}  # fmt: skip


# Processes that are several of these, as docs/operations.md has them.
TOGETHER = {"application": ("publisher", "worker", "archiver"), "web": ("publisher", "reader", "operator")}


def make_user_of_all(admin: Any, name: str) -> None:
    """Make the user of a process that is several roles: with the rules of all; its password is its name."""
    words = dict.fromkeys(word for role in TOGETHER[name] for word in users()[role] if word != ">PASSWORD")
    admin.execute_command("ACL", "SETUSER", name, "reset", f">{name}", *words)
