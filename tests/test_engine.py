"""The engine's decision to start a handler, made by hand between two calls of Redis."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from events.deliveries import Deliveries
from events.event import Event
from events.frame import Lease
from events.joining import Join, Joined
from events.namespace import Declared, Namespace, Remembered
from events.publisher import Publisher
from events.routes import declare
from events.settings import Settings
from events.subscriptions import SubscriberOptions, Subscription
from tests.valkey_servers import ValkeyServer
from workers.attempt import Attempt
from workers.engine import Engine


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with ValkeyServer() as server, server.client() as client:
        yield Namespace(client, f"test-{secrets.token_hex(6)}", lambda: Remembered(0, ()), may_restore=True)


def test_a_join_whose_lease_grew_old_while_it_was_fetched_is_not_started(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, ran = SubscriberOptions(join=Join(("IMAGE",))), []
    editor = Subscription("Editor", ("SCRIPT",), lambda event, joined: ran.append(event), False, options)
    declare(namespace, Declared("Editor", ("SCRIPT",), options.record()), 100)
    Publisher(namespace, 1 << 20, 100).publish_many([Event(type="SCRIPT", project_id="p", actor="a")])
    loop = asyncio.new_event_loop()
    engine = Engine(namespace, Settings(lease_s=60), {"Editor": editor}, threads=1, declare=lambda: None, loop=loop)
    (lease,) = Deliveries(namespace, engine.consumer, 100).read(["Editor"], 1, None)
    attempt = Attempt(lease, editor)
    fetch = Deliveries.joined

    def slowly(deliveries: Deliveries, lease: Lease) -> Joined:
        lease.renewed_at -= 60  # the process was stopped for a minute
        return fetch(deliveries, lease)

    monkeypatch.setattr(Deliveries, "joined", slowly)
    engine.run(attempt)
    loop.close()

    assert not ran and attempt.cancelled
