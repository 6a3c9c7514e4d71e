"""The model finds nothing wrong with the scripts, and everything wrong with scripts that were broken.

Nightly, with other seeds every time (about 40 minutes; a failure is printed as the shortest history
that still fails, and replays with the seed it names):

    python -m tests.model --seed $(date +%s) --seeds 1000 --steps 250
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.model.mutations import MUTATIONS, mutated
from tests.model.play import replay, run, shrink
from tests.valkey_servers import ValkeyServer

SEEDS, STEPS = 32, 160
MUTANT_SEEDS, MUTANT_STEPS = 60, 120


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with ValkeyServer() as server, server.client() as client:
        yield client


@pytest.mark.parametrize("group", range(4))
def test_model_finds_no_violation(client: redis.Redis, group: int) -> None:
    for seed in range(group, SEEDS, 4):
        failure = run(client, seed, STEPS)
        assert failure is None, str(shrink(client, failure))


def test_model_finds_no_violation_on_debians_redis(debian_redis: ValkeyServer) -> None:
    with debian_redis.client() as client:
        for seed in range(1000, 1006):
            failure = run(client, seed, STEPS)
            assert failure is None, str(shrink(client, failure))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_checker_catches(client: redis.Redis, mutation: str) -> None:
    texts = mutated(mutation)

    caught = any(run(client, seed, MUTANT_STEPS, texts) for seed in range(MUTANT_SEEDS))

    assert caught, f"{mutation}: {MUTANT_SEEDS} seeds of {MUTANT_STEPS} steps saw nothing"


def test_a_failure_replays_and_shrinks_to_a_few_operations(client: redis.Redis) -> None:
    texts = mutated("no_fence")
    failure = next(failure for seed in range(MUTANT_SEEDS) if (failure := run(client, seed, MUTANT_STEPS, texts)))

    shortest = shrink(client, failure, texts, budget_s=20.0)

    assert len(shortest.operations) < min(10, len(failure.operations))
    assert replay(client, shortest, shortest.operations, texts), "the shortest history fails again"
    assert replay(client, shortest, shortest.operations) is None, "and only with the fault planted"


def test_a_mutation_that_finds_no_snippet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MUTATIONS, "gone", (MUTATIONS["no_fence"][0]._replace(old="not in any script"),))

    with pytest.raises(LookupError, match="finds its snippet in no script"):
        mutated("gone")
