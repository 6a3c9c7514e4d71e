"""Cron schedules as Redis keeps them: how far the slots of each are settled.

A slot is one moment of a schedule. Any number of processes may run a schedule: a slot's events are
published in the step that moves the schedule's cursor past it, and only by who read the cursor as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from events.connection import mapped
from events.due import microseconds, moment
from events.kept import kept
from events.namespace import Namespace
from events.publisher import refusal
from events.scripts import Argument

SILENT_S = 90.0
"""A declaration by which nobody has planned for so long holds no more. Processes plan at least once a minute."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule as Redis has it.

    Attributes:
        cursor: up to this moment its slots are settled. now: the server's time. Both in UTC.
        wait_s: 0 when the caller's declaration holds; else that of another release does, and the caller
            fires nothing for at least so many seconds.
    """

    cursor: datetime
    now: datetime
    wait_s: float


@dataclass(frozen=True, slots=True)
class PlannedSchedule:
    """A schedule as workers declared it last.

    Attributes:
        cursor: up to this moment its slots are settled.
        last: the last slot that was fired; None when none was.
    """

    name: str
    cron: str
    timezone: str
    missed: str
    cursor: datetime
    last: datetime | None


class Slots:
    """The cron schedules of one namespace. Threads may share it.

    Args:
        max_routes: most subscribers of one type.
    """

    def __init__(self, namespace: Namespace, max_routes: int) -> None:
        self._namespace = namespace
        self._max_routes = max_routes

    def plan(self, name: str, cron: str, timezone: str, missed: str, *, begins: bool) -> Plan:
        """Return a schedule's cursor. One that Redis does not know begins now.

        Args:
            begins: the process has just started: what it declares goes before what Redis knows, unless that
                has just replaced it.
        """
        silent_us = int(SILENT_S * 1e6)
        cursor, now, wait_us = self._namespace.call("plan", name, cron, timezone, missed, int(begins), silent_us)
        with kept(self._namespace.keys("slots", name)):
            return Plan(moment(int(cursor)), moment(int(now)), int(wait_us) / 1e6)

    def fire(
        self,
        name: str,
        cursor: datetime,
        slot: datetime,
        events: Iterable[Sequence[Argument]],
        cron: str,
        timezone: str,
    ) -> bool:
        """Publish a slot's events and move the cursor to it.

        Args:
            cursor: as `plan` told it, for this cron and timezone.
            events: each as the arguments of a script.

        Returns:
            False when others have settled slots since, another declaration holds by now, or the slot is still
            to come; nothing is written.

        Raises:
            PublishRefused: why an event cannot be published; nothing is written.
        """
        before, after = str(microseconds(cursor)), str(microseconds(slot))
        flat = [argument for event in events for argument in event]
        reply: bytes = self._namespace.call(
            "slot", self._max_routes, name, before, after, slot_origin(name, slot), cron, timezone, *flat
        )
        refused = refusal(reply, self._max_routes)
        if refused:
            raise refused
        return reply == b"FIRED"

    def all(self) -> list[PlannedSchedule]:
        """Return every schedule that workers have declared and nobody has forgotten, by name."""
        client, keys = self._namespace.client, self._namespace.keys
        with mapped(client):
            members: Any = client.smembers(keys("schedules"))
            with kept(keys("schedules")):
                names = sorted(name.decode() for name in members)
            pipe = client.pipeline(transaction=False)
            for name in names:
                pipe.hmget(keys("slots", name), "cron", "timezone", "missed", "cursor", "last")
            found = pipe.execute()
        planned = []
        for name, fields in zip(names, found, strict=True):
            with kept(keys("slots", name)):
                planned += [_planned(name, fields)] if fields[3] else []
        return planned

    def forget(self, name: str) -> bool:
        """Remove what Redis keeps of a schedule; one that a process still runs begins anew, at once."""
        client, keys = self._namespace.client, self._namespace.keys
        with mapped(client):
            pipe = client.pipeline(transaction=True)
            pipe.delete(keys("slots", name))
            pipe.srem(keys("schedules"), name)
            return any(pipe.execute())


def slot_origin(name: str, slot: datetime) -> str:
    """Return the origin of a slot's events: two processes that make them differently do not conflict."""
    return f"schedule:{name}:{slot.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _planned(name: str, fields: list[bytes | None]) -> PlannedSchedule:
    cron, timezone, missed = ((field or b"").decode() for field in fields[:3])
    last = moment(int(fields[4])) if fields[4] else None
    return PlannedSchedule(name, cron, timezone, missed, moment(int(fields[3] or 0)), last)
