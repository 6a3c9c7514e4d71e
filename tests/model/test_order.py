"""Order, by a machine of rules on a real server; and that it sees it when order is broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.mutations import OF_ORDER_ALONE, mutated
from tests.model.oracle import Violation
from tests.model.order import machine
from tests.valkey_servers import ValkeyServer

ORDERINGS = ("project", "correlation", "order_key")
BREAKS_ORDER = ("no_holder", "retry_releases_the_lane", "overtaking", "anybody_lets_go", *OF_ORDER_ALONE)


@pytest.fixture
def client(either_server: ValkeyServer) -> Iterator[redis.Redis]:
    with either_server.client() as client:
        yield client


def at_length(examples: int, **more: object) -> settings:
    """Settings under which the machine tries so many sequences of rules."""
    return settings(
        max_examples=examples, stateful_step_count=40, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), **more,
    )  # fmt: skip


@pytest.mark.parametrize("on_dead", ["skip", "block"])
@pytest.mark.parametrize("ordering", ORDERINGS)
def test_each_key_is_handled_in_order_whatever_happens(client: redis.Redis, ordering: str, on_dead: str) -> None:
    run_state_machine_as_test(machine(client, ordering, on_dead), settings=at_length(30, derandomize=True))


@pytest.mark.nightly
@pytest.mark.parametrize("on_dead", ["skip", "block"])
@pytest.mark.parametrize("ordering", ORDERINGS)
def test_each_key_is_handled_in_order_all_night(client: redis.Redis, ordering: str, on_dead: str) -> None:
    run_state_machine_as_test(machine(client, ordering, on_dead), settings=at_length(2000))


@pytest.mark.parametrize("mutation", BREAKS_ORDER)
def test_the_machine_sees_a_broken_order(valkey_server: ValkeyServer, redis_url: str, mutation: str) -> None:
    with valkey_server.client() as client:
        broken = machine(client, "project", texts=mutated(mutation))

        with pytest.raises(Violation):
            run_state_machine_as_test(broken, settings=at_length(2000, derandomize=True, phases=[Phase.generate]))
