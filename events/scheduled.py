"""Events that are to be published later, as Redis keeps them: release what is due, show, cancel.

    scheduled ──due──> published, in the order of due times, within about a second
              ──cancel──> gone

Scheduling is publishing with a due time: `events.publisher`. Nothing of this is in any process's memory;
whoever runs (`workers.scheduler`) releases what is due. Invariant: an event is in history or scheduled,
never both; it leaves here in the step that publishes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.connection import mapped
from events.due import moment
from events.errors import EventBusError, MalformedEntry, ScriptFailed
from events.kept import kept
from events.namespace import Namespace
from events.publisher import refusal

PUT_OFF_S = 60
MAX_CANCELLED = 1000
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Released:
    """What one release did.

    Attributes:
        published: how many events are in history now.
        wait_s: seconds until the next is due, 0.0 when there are more at once; None when none is scheduled.
        dropped: ids that are not scheduled any more and were not published, each with its reason.
        put_off: ids that are tried again after `PUT_OFF_S`, likewise.
    """

    published: int
    wait_s: float | None
    dropped: tuple[tuple[str, EventBusError], ...]
    put_off: tuple[tuple[str, EventBusError], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A scheduled event, without its body. What cannot be read is shown as empty text.

    Attributes:
        due: when it will be published, by the server's clock, in UTC.
        origin: `publish`, or the name of the delivery whose handler scheduled it.
    """

    event_id: str
    due: datetime
    type: str
    project_id: str
    causation_id: str
    origin: str


@dataclass(frozen=True, slots=True)
class Agenda:
    """How much is scheduled.

    Attributes:
        overdue_s: seconds since the first was due, by the server's clock; 0.0 when it is still to come.
    """

    count: int
    overdue_s: float


class ScheduledEvents:
    """The scheduled events of one namespace. Threads may share it.

    Args:
        max_routes: most subscribers of one type.
    """

    def __init__(self, namespace: Namespace, max_routes: int) -> None:
        self._namespace = namespace
        self._max_routes = max_routes

    def release(self, most: int) -> Released:
        """Publish what is due, at most so many; safe from any number of processes at once.

        Raises:
            RedisUnavailable, ScriptFailed: what was not published is still scheduled; call again.
        """
        published, wait_us, refused = self._namespace.call("release", self._max_routes, most, PUT_OFF_S * 1_000_000)
        dropped: list[tuple[str, EventBusError]] = []
        put_off: list[tuple[str, EventBusError]] = []
        for event_id, reply in zip(refused[::2], refused[1::2], strict=True):
            kept = put_off if reply.startswith((b"ROUTES", b"JOINS", b"FAILED")) else dropped
            kept.append((event_id.decode(), self._reason(reply)))
        wait_s = None if wait_us < 0 else wait_us / 1e6
        return Released(published, wait_s, tuple(dropped), tuple(put_off))

    def cancel(self, event_ids: Sequence[str]) -> list[bool]:
        """Take events back before they are published; tell of each whether it was scheduled."""
        found: list[bool] = []
        while len(found) < len(event_ids):  # a call may answer fewer than it was sent
            left = event_ids[len(found) : len(found) + MAX_CANCELLED]
            found += [bool(n) for n in self._namespace.call("cancel", *left)]
        return found

    def know(self, event_ids: Sequence[str]) -> list[bool]:
        """Tell of each id whether an event of that id is scheduled; changes nothing."""
        client = self._namespace.client
        with mapped(client):
            dues: Any = client.zmscore(self._namespace.keys("scheduled"), list(event_ids))
        return [due is not None for due in dues]

    def agenda(self) -> Agenda:
        """Return how many are scheduled, and whether the first is overdue; changes nothing."""
        client, key = self._namespace.client, self._namespace.keys("scheduled")
        with mapped(client):
            pipe = client.pipeline(transaction=True)
            pipe.zcard(key)
            pipe.zrange(key, 0, 0, withscores=True)
            pipe.time()
            count, first, (seconds, micros) = pipe.execute()
        overdue_s = seconds + micros / 1e6 - first[0][1] / 1e6 if first else 0.0
        return Agenda(count, max(0.0, overdue_s))

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate over all, the next due first, a page in memory at a time; what changes meanwhile may be missed."""
        return self.after(0, "")

    def after(self, due_us: int, event_id: str) -> Iterator[Waiting]:
        """Iterate over those after one, by its due time in microseconds since 1970 and its id, as over all.

        When that one has left meanwhile, those of its very moment come again.
        """
        due, last, seen = str(due_us).encode(), event_id.encode(), set()
        while page := self._namespace.scripts.call("agenda", ["", due, last, _PAGE]):
            with kept(self._namespace.keys("scheduled")):
                found = [_waiting(*entry) for entry in page if entry[1] not in seen]
            yield from found
            seen = {entry[1] for entry in page}
            due, last, _ = page[-1]

    def _reason(self, reply: bytes) -> EventBusError:
        refused = refusal(reply, self._max_routes)
        if refused:
            return refused
        if reply.startswith(b"FAILED\t"):
            return ScriptFailed(f"A key that publishing it needs cannot be used: {reply[7:].decode()}", "ERR")
        return MalformedEntry("What is scheduled under this id is not an event: nobody but schedule writes there.")


def _waiting(due_us: bytes, event_id: bytes, header: bytes) -> Waiting:
    fields = header.decode(errors="backslashreplace").split("\t")
    origin, _, _, _, _, _, kind, cause, _, project, *_ = fields if len(fields) > 9 else [""] * 10
    return Waiting(event_id.decode(errors="backslashreplace"), moment(int(due_us)), kind, project, cause, origin)
