"""The receiver against a real server: how it waits while nothing comes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

import pytest

from events.deliveries import Deliveries
from events.frame import Lease
from events.namespace import Declared, Namespace, Remembered
from events.routes import declare
from events.steering import steer
from events.subscriptions import SubscriberOptions, Subscription
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.credits import Credits
from workers.held import Held
from workers.receiver import SATURATED_BLOCK_MS, Receiver


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


class Noting(Deliveries):
    """Deliveries that note which queues were read, and how long each read was ready to wait."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace, "w", 100)
        self.reads: list[tuple[tuple[str, ...], int | None]] = []

    def read(self, subscribers: Sequence[str], count: int, block_ms: int | None) -> list[Lease]:
        self.reads.append((tuple(subscribers), block_ms))
        return super().read(subscribers, count, block_ms)


def test_a_process_reads_on_in_peace_while_one_of_its_subscribers_is_paused(namespace: Namespace) -> None:
    names = ("Painter", "Editor")
    for name in names:
        declare(namespace, Declared(name, ("A",), SubscriberOptions().record()), 100)
    steer(namespace, "Editor", paused=True)
    deliveries = Noting(namespace)
    subscriptions = {name: Subscription(name, ("A",), print, False, SubscriberOptions()) for name in names}
    receiver = Receiver(
        deliveries,
        Held(),
        subscriptions,
        Credits(4, 4),
        lease_s=60,
        refused=lambda lease: None,
        spared=lambda lease: None,
        reopen=lambda: None,
        beat=lambda: "{}",
        busy=lambda: {},
    )

    for name in names:
        receiver.attend(name)
    try:
        wait_until(
            lambda: any(block_ms and block_ms > SATURATED_BLOCK_MS for _, block_ms in deliveries.reads[2:]),
            20,
            "a read that waits as long as when nobody is paused",
        )
        assert {read for read, _ in deliveries.reads[2:]} == {("Painter",)}
    finally:
        receiver.stop()
