"""Going on: whoever ends a delivery runs the next of its subscriber that waits here, in the same thread or loop.

What Dramatiq and the waking of another thread cost is more than a quick handler takes: this way many share it. Each
delivery has its credit, its limits and its end as ever, and what is not started stays where others find it. An
application's own middleware looks at each message, so there nobody goes on. `CurrentMessage` shows each handler its own
message, and an async one starts in a context of its own: no variable of the handler before it is seen there.
"""

from __future__ import annotations

import contextvars
import time
from typing import TYPE_CHECKING

from dramatiq.middleware import CurrentMessage

from workers.attempt import Attempt
from workers.messages import message_of

if TYPE_CHECKING:
    from workers.engine import Engine

SLICE_S = 0.01  # of the loop
LINGER_S = 1.0  # of a thread, which waits for what comes


_CURRENT = CurrentMessage()


def go_on(engine: Engine, attempt: Attempt) -> None:
    """End an attempt, then run and end others, for a moment; one that the loop has taken over ends there.

    On the loop only those of async handlers go on: what a plain one does next would keep the loop from everybody.
    A process with one thread alone, as of `dramatiq --threads 1`, brings async ones to the loop after that moment.
    """
    on_loop = attempt.deferred
    until = time.monotonic() + (SLICE_S if on_loop else LINGER_S)
    lingers_until = 0.0 if on_loop else until
    may_go_on = engine.receiver.quick.is_on and (attempt.subscription.is_async or not on_loop)
    following = engine.finish(attempt, goes_on=may_go_on, lingers_until=lingers_until)
    while following is not None:
        try:
            if on_loop:
                contextvars.Context().run(_run, engine, following)
            else:
                _run(engine, following)
        except BaseException as error:
            following.error = error
        if following.deferred:
            return
        following = engine.finish(following, goes_on=time.monotonic() < until, lingers_until=lingers_until)


def _run(engine: Engine, attempt: Attempt) -> None:
    _CURRENT.before_process_message(None, message_of(attempt))  # type: ignore[no-untyped-call]
    engine.run(attempt)
