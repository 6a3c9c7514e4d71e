"""One run of the demo: servers, two worker processes, an archiver, and one project from start to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.demo.fleet import Fleet
from console.demo.progress import Progress
from console.exits import Mistake

if TYPE_CHECKING:
    from events.bus import EventBus
    from events.event import Event
    from events.inspection import Inspection
    from events.records import RecordedEvent
    from events.settings import Settings

POLL_S = 0.15
ARCHIVE_S = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was taken through the pipeline.

    Attributes:
        root, final: the first event and the last.
        elapsed_s: from publishing the first to seeing the last.
    """

    root: Event
    final: RecordedEvent
    elapsed_s: float


class Failed(Exception):
    """The pipeline did not finish; the message says what failed."""


@contextmanager
def pipeline(settings: Settings) -> Iterator[tuple[EventBus, Fleet]]:
    """Enter a running pipeline: bus, fleet and archiver; at the end all of it is archived and stopped.

    A block that raises is not waited for: what is not archived yet stays in Redis for the next archiver.

    Raises:
        Mistake: the namespace is in use by others, whom the demo's events would reach.
        EventBusError: a server cannot be started or reached, or the database is not migrated; nothing runs then.
    """
    from console.demo.pipeline import bus as make_bus
    from events.inspection import Inspection
    from workers.archiver import Archiver

    bus = make_bus(settings)
    try:
        inspection = Inspection(bus.backend.namespace)
        inspection.server()
        bus.backend.registry.require_current()
        _refuse_others(bus, inspection)
        is_guest = _has_routes(bus, inspection)
        archiver = Archiver(bus.backend.history, bus.backend.archive, settings)
        archiving = threading.Thread(target=archiver.run, name="eventbus-archiver", daemon=True)
        fleet = Fleet(settings)
        archiving.start()
        fleet.start()
        try:
            yield bus, fleet
            fleet.stop()
            _await_archive(inspection)
        finally:
            fleet.stop()
            archiver.stop()
            archiving.join(ARCHIVE_S)
        if not is_guest:
            _leave(bus, inspection)
    finally:
        bus.close()


def tell(bus: EventBus, fleet: Fleet, opening: Event, progress: Progress, timeout_s: float) -> Told:
    """Publish the opening event and wait until the project is finalized.

    Raises:
        Failed: a delivery became a dead letter, the workers cannot run, or time is up.
    """
    from events.inspection import Inspection
    from store.filter import EventFilter

    inspection = Inspection(bus.backend.namespace)
    names = [subscription.name for subscription in bus.subscriptions]
    buried = {name: _newest_grave(bus, name) for name in names}
    wanted = EventFilter(project_id=opening.project_id)
    after = bus.backend.history.clock()
    bus.publish_sync(opening)
    started = time.monotonic()
    while True:
        page = bus.backend.blackboard.replay.page(wanted, after)
        after = page.last
        queues = inspection.queues(names)
        progress.see(page.events, queues)
        for recorded in page.events:
            if recorded.event.type.value == "PROJECT_FINALIZED":
                return Told(opening, recorded, time.monotonic() - started)
        for queue in queues:
            if queue.dead:
                _refuse_graves(bus, queue.subscriber, buried[queue.subscriber], opening.project_id)
        if fleet.has_ended:
            raise Failed(f"The workers cannot run. The log {fleet.log} ends with:{fleet.last_words()}")
        if time.monotonic() - started > timeout_s:
            words = fleet.last_words()
            log = f" The log {fleet.log} ends with:{words}" if words else ""
            raise Failed(f"The story is not finished after {timeout_s:g} s: {progress.outstanding()}.{log}")
        if page.complete:
            time.sleep(POLL_S)


def _refuse_others(bus: EventBus, inspection: Inspection) -> None:
    own = {subscription.name for subscription in bus.subscriptions}
    others = [queue.subscriber for queue in inspection.queues() if queue.types and queue.subscriber not in own]
    if others:
        raise Mistake(
            f"The namespace {bus.settings.namespace!r} has subscribers of its own ({', '.join(others[:3])}"
            f"{', ...' if len(others) > 3 else ''}), whom the demo's events would reach: give the demo another "
            "--home, or set EVENTBUS_NAMESPACE=demo."
        )


def _newest_grave(bus: EventBus, name: str) -> int:
    from events.dead_letters import DeadLetters

    newest = DeadLetters(bus.backend.namespace).newest(name)
    return newest.position if newest else 0


def _refuse_graves(bus: EventBus, name: str, after: int, project_id: str) -> None:
    from events.dead_letters import DeadLetters
    from events.records import LetterFilter

    for letter in DeadLetters(bus.backend.namespace).iterate(LetterFilter(subscribers=(name,), after=after)):
        if letter.event is None or letter.event.project_id == project_id:
            kind = letter.event.type.value if letter.event else "a delivery"
            raise Failed(f"{name} gave up on {kind} after {letter.attempts} attempts: {letter.reason}")


def _await_archive(inspection: Inspection) -> None:
    """Let the archive catch up, whoever archives."""
    from events.errors import EventBusError

    deadline = time.monotonic() + ARCHIVE_S
    try:
        while time.monotonic() < deadline:
            backlog = inspection.backlog()
            if not backlog.unarchived and not backlog.outcomes:
                break
            time.sleep(0.05)
    except EventBusError:
        pass  # the next archiver has it


def _has_routes(bus: EventBus, inspection: Inspection) -> bool:
    """Tell whether somebody has subscribed the demo's agents before: their routes are not the demo's to remove."""
    return any(queue.types for queue in inspection.queues([subscription.name for subscription in bus.subscriptions]))


def _leave(bus: EventBus, inspection: Inspection) -> None:
    """Remove the demo's routes, so that no later event waits for agents that nobody runs.

    They stay when work is left, or when other workers live, which may run the same agents: the demo's
    own have drained, and are not counted any more.
    """
    names = [subscription.name for subscription in bus.subscriptions]
    if inspection.live_workers() or any(queue.unsettled for queue in inspection.queues(names)):
        return
    for name in names:
        bus.unsubscribe(name)
