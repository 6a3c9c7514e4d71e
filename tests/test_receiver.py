"""The receiver against a real server: what it reads, tends, hands back and leaves out."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from events.deliveries import Deliveries, Tended
from events.event import Event
from events.frame import Lease
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.steering import steer
from events.subscriptions import SubscriberOptions, Subscription
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.attention import FEW
from workers.credits import Credits
from workers.held import Held
from workers.prefetch import MUCH_ROOM, QUIET_BLOCK_MS, SATURATED_BLOCK_MS
from workers.receiver import Receiver
from workers.starting import MAX_STARTING

PATIENCE_S = 30


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


class Noting(Deliveries):
    """Deliveries that note which queues were read, how long each read was ready to wait, and what was beaten."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace, "w", 100)
        self.reads: list[tuple[tuple[str, ...], int | None]] = []
        self.beats: list[str] = []

    def read(self, subscribers: Sequence[str], count: int, block_ms: int | None) -> list[Lease]:
        self.reads.append((tuple(subscribers), block_ms))
        return super().read(subscribers, count, block_ms)

    def promote(self, running: Mapping[str, int], limit: int = 1000, beat: str = "") -> Tended:
        self.beats.append(beat)
        return super().promote(running, limit, beat)


def declared(namespace: Namespace, *names: str) -> dict[str, Subscription]:
    """Declare plain subscribers, each of a type of its own name in capitals; return their subscriptions."""
    for name in names:
        declare(namespace, Declared(name, (name.upper(),), SubscriberOptions().record()), 100)
    return {name: Subscription(name, (name.upper(),), print, False, SubscriberOptions()) for name in names}


def publish(namespace: Namespace, *types: str) -> None:
    Publisher(namespace, 1 << 20, 100).publish_many([Event(type=one, project_id="p", actor="a") for one in types])


def idle(
    deliveries: Deliveries,
    subscriptions: Mapping[str, Subscription],
    *,
    lease_s: float = 60,
    threads: int = 4,
    places: int = 4,
    spared: Callable[[Lease], None] = lambda lease: None,
) -> Receiver:
    """Return a receiver that does not read yet."""
    return Receiver(
        deliveries,
        Held(),
        subscriptions,
        Credits(threads, places),
        lease_s=lease_s,
        refused=lambda lease: None,
        spared=spared,
        reopen=lambda: declared(deliveries.namespace, *subscriptions) and None,
        beat=lambda: "{}",
        busy=lambda: {},
    )


@contextmanager
def receiving(deliveries: Deliveries, subscriptions: Mapping[str, Subscription], **options: Any) -> Iterator[Receiver]:
    """Run a receiver that reads for all of the subscriptions; the options are those of `idle`."""
    receiver = idle(deliveries, subscriptions, **options)
    receiver.start()
    for name in subscriptions:
        receiver.attend(name)
    try:
        yield receiver
    finally:
        receiver.stop()


def test_a_process_reads_on_in_peace_while_one_of_its_subscribers_is_paused(namespace: Namespace) -> None:
    subscriptions = declared(namespace, "Painter", "Editor")
    steer(namespace, "Editor", paused=True)
    deliveries = Noting(namespace)

    with receiving(deliveries, subscriptions):
        wait_until(
            lambda: any(block_ms and block_ms > SATURATED_BLOCK_MS for _, block_ms in deliveries.reads[2:]),
            PATIENCE_S,
            "a read that waits as long as when nobody is paused",
        )
        assert {read for read, _ in deliveries.reads[2:]} == {("Painter",)}


def test_a_process_reads_more_and_more_seldom_while_one_of_its_subscribers_runs_for_long(namespace: Namespace) -> None:
    subscriptions = declared(namespace, "Painter", "Editor")
    subscriptions["Editor"] = replace(subscriptions["Editor"], is_async=True)
    deliveries = Noting(namespace)
    publish(namespace, "PAINTER", "PAINTER")

    with receiving(deliveries, subscriptions, threads=1) as receiver:
        wait_until(lambda: receiver.take("Painter", 0.1), PATIENCE_S, "the one delivery that runs")
        wait_until(
            lambda: any(
                names == ("Editor",) and block_ms and 4 * SATURATED_BLOCK_MS < block_ms <= QUIET_BLOCK_MS
                for names, block_ms in deliveries.reads
            ),
            PATIENCE_S,
            "a read that waits longer than the first ones",
        )


def test_an_idle_process_reads_all_queues_with_one_command_however_much_room_each_has(namespace: Namespace) -> None:
    subscriptions = declared(namespace, "Painter", "Editor")
    subscriptions["Editor"] = replace(subscriptions["Editor"], is_async=True)
    deliveries = Noting(namespace)

    with receiving(deliveries, subscriptions, threads=1, places=MUCH_ROOM):
        wait_until(lambda: len(deliveries.reads) > 3, PATIENCE_S, "reads in peace")
        assert {(frozenset(read), bool(block_ms)) for read, block_ms in deliveries.reads[1:4]} == {
            (frozenset(subscriptions), True)
        }


def test_what_a_process_says_of_itself_is_not_sent_again_each_time_that_it_tends(namespace: Namespace) -> None:
    options = SubscriberOptions(rate_limit=20)
    declare(namespace, Declared("Painter", ("PAINTER",), options.record()), 100)
    subscriptions = {"Painter": Subscription("Painter", ("PAINTER",), print, False, options)}
    deliveries = Noting(namespace)
    publish(namespace, *["PAINTER"] * 100)

    with receiving(deliveries, subscriptions):
        wait_until(lambda: deliveries.beats.count("") >= 5, PATIENCE_S, "it to tend between two beats")
        assert deliveries.beats[0] == "{}"


def test_what_is_to_run_alone_of_a_paused_subscriber_is_handed_back_and_in_nobodys_way(namespace: Namespace) -> None:
    subscriptions = declared(namespace, "Painter", "Editor")
    publish(namespace, "PAINTER", "PAINTER", "EDITOR", "EDITOR")
    for lease in Deliveries(namespace, "fell-silent", 100).read(["Painter", "Editor"], 10, None):
        namespace.client.hset(namespace.keys("suspects", lease.subscriber), lease.frame.name, 1)
    steer(namespace, "Painter", paused=True)
    spared: list[str] = []

    with receiving(
        Deliveries(namespace, "w", 100), subscriptions, lease_s=1, spared=lambda x: spared.append(x.subscriber)
    ) as receiver:
        for _ in range(2):
            lease = wait_until(lambda: receiver.take("Editor", 0.1), PATIENCE_S, "a delivery that runs alone")
            receiver.finished([lease], 0.1)
            receiver.settled(lease)
        wait_until(lambda: spared == ["Painter", "Painter"], PATIENCE_S, "the paused one's to be handed back")


def test_a_process_without_subscribers_beats_and_is_ready(namespace: Namespace) -> None:
    with receiving(Deliveries(namespace, "w", 100), {}) as receiver:
        wait_until(lambda: receiver.reads, PATIENCE_S, "the process to be ready")
        assert namespace.client.hget(namespace.keys("beats"), "w") == b"{}"


@pytest.mark.parametrize("key", ["delayed", "queue", "suspects"])
def test_a_damaged_key_of_one_subscriber_does_not_keep_deliveries_from_the_others(
    namespace: Namespace, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    subscriptions = declared(namespace, "Painter", "Editor", "Singer")
    publish(namespace, "PAINTER", "EDITOR")
    for lease in Deliveries(namespace, "fell-silent", 100).read(["Painter", "Editor"], 10, None):
        assert lease.subscriber
    caplog.set_level("INFO", logger="eventbus.receiver")
    damaged = namespace.keys(key, "Painter")
    namespace.client.delete(damaged)
    namespace.client.set(damaged, "damaged")

    with receiving(Deliveries(namespace, "w", 100), subscriptions, lease_s=1) as receiver:
        wait_until(lambda: receiver.reads, PATIENCE_S, "the process to be ready")
        publish(namespace, "SINGER")
        wait_until(lambda: receiver.take("Singer", 0.1), PATIENCE_S, "the other subscriber's delivery")
        wait_until(lambda: receiver.take("Editor", 0.1), PATIENCE_S, "what a third one's silent worker held")
        said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert said and all("The subscriber Painter goes without" in line for line in said) and len(said) <= 2

        namespace.client.delete(damaged)
        wait_until(lambda: "Painter are sound again" in caplog.text, PATIENCE_S, "the damage to be mended")


def test_a_process_of_many_subscribers_looks_mostly_where_deliveries_come_from_and_soon_everywhere(
    namespace: Namespace,
) -> None:
    subscriptions = declared(namespace, *(f"S{number}" for number in range(3 * FEW)))
    deliveries = Noting(namespace)
    publish(namespace, *["S0"] * 120)
    with receiving(deliveries, subscriptions) as receiver:

        def handle(name: str) -> None:
            lease = receiver.take(name, PATIENCE_S)
            assert lease is not None
            assert lease.subscriber == name
            receiver.finished([lease], 0.0001)

        for _ in range(60):
            handle("S0")
        publish(namespace, "S7")
        handle("S7")  # long before the other's are through: nobody takes those meanwhile
        for _ in range(60):
            handle("S0")
    looked_at = {len(names) for names, block_ms in deliveries.reads if block_ms is not None}
    assert 3 * FEW in looked_at
    assert 1 in looked_at


@pytest.mark.parametrize("asking", [0, 1])
def test_async_ones_that_the_loop_could_not_be_asked_to_begin_are_woken_when_it_has_begun_the_others(
    namespace: Namespace, asking: int
) -> None:
    """More than may be asked for at once, each begun at once; nothing else happens that would wake anybody.

    One is not begun all the while where one is asking: a join asks Redis first.
    """
    names = [f"S{number}" for number in range(MAX_STARTING + 8)]
    subscriptions = {name: replace(one, is_async=True) for name, one in declared(namespace, "First", *names).items()}
    deliveries, taken = Deliveries(namespace, "w", 100), list[str]()
    receiver = idle(deliveries, subscriptions, places=1000)
    if asking:
        publish(namespace, "FIRST")
        receiver._accept(deliveries.read(["First"], 1, None))
        assert receiver.take("First", PATIENCE_S)
    publish(namespace, *names)

    def consume(name: str) -> None:
        if (lease := receiver.take(name, PATIENCE_S)) is not None:
            receiver.began([lease])
            taken.append(name)

    threads = [threading.Thread(target=consume, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(receiver._takers.consumers) == len(names), PATIENCE_S, "all to wait")
        receiver._accept(deliveries.read(names, 1, None))
        wait_until(lambda: sorted(taken) == sorted(names), PATIENCE_S / 2, "all to be taken")
    finally:
        receiver.stop()
        for thread in threads:
            thread.join()
