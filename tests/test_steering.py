"""Waiting for a pause to be heeded, on a real server."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor

from events.deliveries import Deliveries
from events.dropping import drop_step
from events.event import Event
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.steering import steer, until_heeded
from events.subscriptions import SubscriberOptions
from tests.valkey_servers import ValkeyServer


def test_nobody_holds_deliveries_of_a_subscriber_that_is_dropped_while_its_pause_is_waited_for() -> None:
    with ValkeyServer() as server, server.client() as client, ThreadPoolExecutor(1) as pool:
        namespace = Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)
        declare(namespace, Declared("Painter", ("SHOT",), SubscriberOptions().record()), 100)
        Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SHOT", project_id="p", actor="a")])
        assert len(Deliveries(namespace, "silent", 100).read(["Painter"], 1, None)) == 1
        steer(namespace, "Painter", paused=True)

        heeded = pool.submit(until_heeded, namespace, "Painter", 60)
        while not drop_step(namespace, "Painter", force=True).is_gone:
            pass

        assert heeded.result(30) == ()
