"""Deliveries on the wire: the frame that waits in Redis, and the lease that a worker holds.

A frame is a header of tab-separated fields, a newline, and the event's body; `library.lua` writes
it. A lease is a frame that a consumer group handed to one consumer, with the token that proves it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from events.encoding import decode
from events.errors import MalformedEntry
from events.event import Event

SURE = 0.8  # of a lease: what is left covers clocks that run apart and a reply on its way


class Frame(NamedTuple):
    """A delivery as it waits.

    Attributes:
        position: the event's place in history.
        redelivery: 0 of what publish delivered; counted up each time somebody asks for it again. A back-fill
            begins with a number that no earlier subscriber of that name has used.
        attempts: tries that ended before this lease.
        depth: the event's depth. type: the event's type. root: its correlation id; empty where that is its own.
        lane: the lane it waits in. priority: how urgent it is there, -9 to 9.
        scopes: the joins that wait for what it causes, comma-separated.
        body: the encoded event.
    """

    position: int
    redelivery: int
    attempts: int
    depth: int
    type: str
    root: str
    lane: str
    priority: int
    scopes: str
    body: bytes

    @property
    def name(self) -> str:
        """The delivery's name, unique within its subscriber."""
        return f"{self.position}:{self.redelivery}"


def parse_frame(raw: bytes) -> Frame:
    """Read a frame.

    Raises:
        MalformedEntry: naming what is wrong; it never shows payloads.
    """
    header, newline, body = raw.partition(b"\n")
    try:
        position, redelivery, attempts, depth, kind, root, lane, priority, scopes = header.decode().split("\t")
        if not newline:
            raise ValueError
        return Frame(
            int(position), int(redelivery), int(attempts), int(depth), kind, root, lane, int(priority), scopes, body
        )
    except ValueError:
        raise MalformedEntry("The queue entry is not a delivery: its header is not the 9 fields of a frame.") from None


UNREADABLE = Frame(0, 0, 0, 0, "", "", "", 0, "", b"")


@dataclass(slots=True, eq=False, repr=False)
class Lease:
    """A delivery that this process owns until it settles it, hands it back or falls silent.

    Attributes:
        subscriber: whose delivery it is.
        entry_id: the entry in the subscriber's queue.
        count: how often the entry was handed out; with the consumer it is the fencing token.
        frame: what was queued; `UNREADABLE` when `fault` says why it could not be read.
        suspect: taken over from a silent worker, or handed back by one that had; its start is counted.
        starts: starts of this delivery by workers that took it over and fell silent too.
        begun: its start is counted, by `begin`; handed back unstarted it is counted no more.
        fault: why the delivery cannot be handled at all, a sentence; None when it can.
        renewed_at: monotonic seconds at which the last proof of ownership was asked for.
    """

    subscriber: str
    entry_id: str
    count: int
    frame: Frame
    suspect: bool = False
    starts: int = 0
    begun: bool = False
    fault: str | None = None
    renewed_at: float = 0.0
    _event: Event | None = field(default=None)

    def __repr__(self) -> str:
        return f"<delivery {self.delivery} attempt {self.attempt}>"

    @property
    def attempt(self) -> int:
        """1 for the first try."""
        return self.frame.attempts + self.count

    @property
    def delivery(self) -> str:
        """The delivery's name in its namespace, `<position>:<subscriber>:<redelivery>`."""
        return f"{self.frame.position}:{self.subscriber}:{self.frame.redelivery}"

    def is_surely_ours(self, lease_s: float) -> bool:
        """Tell whether nobody can have taken it over yet; after a pause of the process the keeper asks first."""
        return time.monotonic() - self.renewed_at < lease_s * SURE

    @property
    def event_id(self) -> str:
        """The event's id; empty when the entry could not be read."""
        return self._event.event_id if self._event else ""

    @property
    def event(self) -> Event:
        """The event, decoded on first use.

        Raises:
            MalformedEntry: when the body is not an event.
        """
        if self._event is None:
            self._event = decode(self.frame.body, self.frame.root)
        return self._event


def lease_of(subscriber: str, entry_id: bytes, count: int, raw: bytes | None, *, suspect: bool) -> Lease:
    """Make the lease of an entry; one that cannot be read gets a `fault` instead of an exception."""
    try:
        if raw is None:
            raise MalformedEntry("The queue entry is not a delivery: it has no field 'f'.")
        frame = parse_frame(raw)
        lease = Lease(subscriber, entry_id.decode(), count, frame, suspect)
        lease.event  # noqa: B018 - decodes now, so that a bad body is found before a handler is
        return lease
    except MalformedEntry as error:
        try:
            frame = parse_frame(raw or b"")
        except MalformedEntry:
            frame = UNREADABLE
        return Lease(subscriber, entry_id.decode(), count, frame, suspect, fault=str(error))
