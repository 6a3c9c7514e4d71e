"""How old the oldest unsettled event is, wherever it waits: an autoscaler reads it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from events.deliveries import Deliveries, Settlement
from events.event import Event
from events.frame import Lease
from events.inspection import MAX_OLDEST, Inspection, Queue
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher, Receipt
from events.records import AttemptState
from events.routes import declare
from events.steering import steer
from events.subscriptions import SubscriberOptions
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until


@dataclass(frozen=True)
class Site:
    """A namespace with a subscriber `Painter`, and a worker of it."""

    namespace: Namespace
    worker: Deliveries

    def publish(self, *projects: str) -> list[Receipt]:
        events = [Event(type="SHOT", project_id=project, actor="a") for project in projects]
        receipts = Publisher(self.namespace, 1 << 20, 100).publish_many(events)
        return [receipt for receipt in receipts if isinstance(receipt, Receipt)]

    def lease(self, count: int) -> list[Lease]:
        return self.worker.read(["Painter"], count, None)

    def settle(self, leases: list[Lease], how: Callable[[Lease], Settlement]) -> None:
        assert self.worker.settle(list(map(how, leases))) == ["settled"] * len(leases)

    def queue(self) -> Queue:
        return Inspection(self.namespace).queues(["Painter"])[0]

    def is_oldest(self, receipt: Receipt) -> bool:
        """Whether this event, and none that came after it, is told to be the oldest."""
        seconds, micros = self.namespace.client.time()
        age_s = (int(seconds) * 1_000_000 + int(micros) - receipt.position) / 1e6
        told_s = self.queue().oldest_s
        return told_s is not None and told_s >= age_s

    def pass_a_second(self) -> None:
        """Let the server's clock go on, so that older and younger events can be told apart."""
        start = self.namespace.client.time()[0]
        wait_until(lambda: self.namespace.client.time()[0] > start, 10, "a second to pass")


def done(lease: Lease) -> Settlement:
    return Settlement(lease, "end", AttemptState.DONE)


@pytest.fixture
def site() -> Iterator[Site]:
    with ValkeyServer() as server, server.client() as client:
        namespace = Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)
        declare(namespace, Declared("Painter", ("SHOT",), SubscriberOptions().record()), 100)
        yield Site(namespace, Deliveries(namespace, "w", 100))


def test_the_oldest_event_is_found_in_the_lane_whose_turn_comes_last(site: Site) -> None:
    steer(site.namespace, "Painter", concurrency=1)
    old = site.publish("crowd", "crowd", "crowd")
    site.pass_a_second()
    site.publish(*(f"p{n}" for n in range(50)))
    for _ in range(2):
        site.settle(site.lease(1), done)

    assert site.is_oldest(old[2])
    assert not site.queue().oldest_is_bounded


def test_the_oldest_event_is_found_behind_others_in_the_window_and_among_retries_due_later(site: Site) -> None:
    young_first = [site.publish("p")[0] for _ in range(2)]
    leases = site.lease(2)
    site.pass_a_second()
    site.publish("p", "p")
    younger = site.lease(2)

    def again(lease: Lease) -> Settlement:
        delay_us = 3_600_000_000 if lease in leases else 1_800_000_000
        return Settlement(lease, "again", AttemptState.RETRIED, attempts=1, delay_us=delay_us)

    site.settle([*younger, *leases], again)

    assert site.is_oldest(young_first[0])
    assert not site.queue().oldest_is_bounded


def test_an_age_that_may_be_more_says_so(site: Site) -> None:
    steer(site.namespace, "Painter", concurrency=None)
    site.publish(*("p" for _ in range(MAX_OLDEST)))
    site.lease(MAX_OLDEST)
    wait_until(lambda: not site.queue().waiting or site.lease(MAX_OLDEST), 10, "all to be in the window")
    assert not site.queue().oldest_is_bounded

    site.publish("p")
    site.lease(1)

    assert site.queue().oldest_is_bounded
