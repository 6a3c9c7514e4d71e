"""How much is tried: little in the suite, what `EVENTBUS_FUZZ_EXAMPLES` says at night."""

from __future__ import annotations

import os

EXAMPLES = int(os.environ.get("EVENTBUS_FUZZ_EXAMPLES", "60"))
"""Of random damage for each reader of bytes; of what needs a server or a process there are fewer, see `share`."""
SEED = int(os.environ.get("EVENTBUS_FUZZ_SEED", "1"))


def share(one_in: int) -> int:
    """Return how many examples to try of what costs that many times as much."""
    return max(8, EXAMPLES // one_in)
