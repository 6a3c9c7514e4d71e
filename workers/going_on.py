"""Going on: whoever ends a delivery runs the next of its subscriber that waits here, in the same thread or loop.

What Dramatiq and the waking of another thread cost is more than a quick handler takes: this way many share it. Each
delivery has its credit, its limits and its end as ever, and what is not started stays where others find it. An
application's own middleware looks at each message, so there nobody goes on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workers.attempt import Attempt

if TYPE_CHECKING:
    from workers.engine import Engine

SLICE_S = 0.01


def go_on(engine: Engine, attempt: Attempt) -> None:
    """End an attempt, then run and end others, for a moment; one that the loop has taken over ends there."""
    until = time.monotonic() + SLICE_S
    following = engine.finish(attempt, goes_on=engine.receiver.quick.is_on)
    while following is not None:
        try:
            engine.run(following)
        except BaseException as error:
            following.error = error
        if following.deferred:
            return
        following = engine.finish(following, goes_on=time.monotonic() < until)
