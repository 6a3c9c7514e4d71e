"""`python -m tests.model`: play seeds against the scripts and print the shortest failing history."""

from __future__ import annotations

import argparse
import time

from tests.model.mutations import MUTATIONS, mutated
from tests.model.play import run, shrink
from tests.valkey_servers import ValkeyServer


def main() -> int:
    """Return 1 when a promise broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counting up from the first")
    parser.add_argument("--steps", type=int, default=200, help="operations of each run, before it drains")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="plant this fault first")
    parser.add_argument("--shrink-s", type=float, default=30.0, help="seconds to spend on shortening")
    asked = parser.parse_args()
    texts = mutated(asked.mutation) if asked.mutation else None
    began = time.monotonic()
    with ValkeyServer() as server, server.client() as client:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            failure = run(client, seed, asked.steps, texts)
            if failure:
                print(shrink(client, failure, texts, asked.shrink_s))
                return 1
    print(f"{asked.seeds} seeds of {asked.steps} steps, no violation, {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
