"""One namespace in Redis and SQL, for tests that back-fill subscribers step by step."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Engine

from events.backfill import Place, fill, look
from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.records import AttemptState
from events.routes import declare
from events.settings import Settings
from events.stream import HistoryStream
from store.archive import Archive
from store.direct import DirectWriter
from store.registry import Registry
from store.replay import EventFilter, Page, Replay
from tests.model.scene import Role
from workers.archiver import Archiver
from workers.backfill import Backfiller

FROM_THE_BEGINNING = {"state": "backfill", "cursor": "0"}


class Bench:
    """One namespace in Redis and SQL, with an archiver that trims all it may."""

    def __init__(self, client: Any, engine: Engine, texts: dict[str, str] | None = None) -> None:
        self.client = client
        self.name = f"fill-{secrets.token_hex(6)}"
        self.engine = engine
        self.registry = Registry(engine, self.name)
        self.namespace = Namespace(client, self.name, self._remembered, may_restore=True, texts=texts)
        self.namespace.open()
        self.keys = self.namespace.keys
        self.publisher = Publisher(self.namespace, 1 << 20, 100)
        history = HistoryStream(self.namespace)
        self.replay = Replay(engine, self.name, history)
        self.direct = DirectWriter(engine, self.name, history, self.replay)
        settings = Settings(namespace=self.name, history_margin_s=0, archive_batch=7)
        self.archiver = Archiver(history, Archive(engine, self.name), settings)
        self.number = 0

    def _remembered(self) -> Remembered:
        rows = [
            Declared(name, tuple(types), options, steering) for name, types, options, steering in self.registry.all()
        ]
        return Remembered(1, rows)

    def declare(self, name: str, *types: str, steering: dict[str, str] | None = None, **options: Any) -> None:
        record = Role(types, **options).record()
        kept = self.registry.save(name, types, record, steering or {})
        declare(self.namespace, Declared(name, types, record, kept), 100)

    def publish(self, count: int = 1, kind: str = "A", **fields: Any) -> list[str]:
        numbers = range(self.number, self.number + count)
        events = [Event(event_id=f"e{n}", type=kind, project_id=f"p{n % 3}", actor="x", **fields) for n in numbers]
        self.number += count
        for answer in self.publisher.publish_many(events):
            assert not isinstance(answer, Exception), answer
        return [event.event_id for event in events]

    def archive(self) -> None:
        while self.archiver.step("history").entries:
            pass

    def page(self, place: Place, limit: int = 100) -> Page:
        return self.replay.page(EventFilter(types=place.wanted), place.cursor, limit)

    def fill(self, name: str, limit: int = 100) -> Place:
        """One step of a filler."""
        place = look(self.namespace, name)
        page = self.page(place, limit)
        return fill(self.namespace, name, place, page.last, page.events, is_end=page.complete)

    def handled(self, name: str, most: int = 10_000) -> list[str]:
        """Handle what is there; return event ids in the order in which they came."""
        order: list[str] = []
        worker = Deliveries(self.namespace, "w", 100)
        while len(order) < most and (leases := worker.read([name], 1, None)):
            assert leases[0].fault is None, leases[0].fault
            assert worker.settle([Settlement(leases[0], "end", AttemptState.DONE)]) == ["settled"]
            order.append(leases[0].event_id)
        return order

    def state(self, name: str) -> tuple[bytes | None, ...]:
        """The state and the cursor that Redis has."""
        return tuple(self.client.hmget(self.keys("sub", name), "state", "cursor"))


def filler(bench: Bench, *names: str, page: int = 50) -> Backfiller:
    """A filler that believes that these subscribers are being back-filled."""
    return Backfiller(bench.namespace, bench.registry, bench.replay, names, lambda: names, page=page)
