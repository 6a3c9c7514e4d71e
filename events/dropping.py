"""Dropping a subscriber in Redis: its routes, what waits for it, and itself, a bounded step at a time.

Forgetting it in the store too is `workers.operating`'s.
"""

from __future__ import annotations

from typing import NamedTuple

from events.errors import DropRefused
from events.namespace import Namespace

MOST = 500
"""Deliveries that one step ends: some 10 ms of a server that does nothing else."""


class Step(NamedTuple):
    """What one step did.

    Attributes:
        deliveries: ended, with the outcome `dropped`. dead_letters: removed.
        is_gone: nothing of the subscriber is left. was_known: it was declared before the step.
    """

    deliveries: int
    dead_letters: int
    is_gone: bool
    was_known: bool = True


def drop_step(
    namespace: Namespace, name: str, *, force: bool = False, dead_letters: bool = False, most: int = MOST
) -> Step:
    """Do a step of dropping; repeat until it is gone.

    Args:
        force: also end what workers hold. Those learn it when they settle: their result is refused, and
            what their handlers return is not published.
        dead_letters: remove its dead letters too.

    Raises:
        DropRefused: workers hold deliveries, or dead letters are kept, and that was not asked for.
    """
    reply = namespace.call("drop", name, int(force), int(dead_letters), most)
    if reply == b"UNKNOWN":
        return Step(0, 0, is_gone=True, was_known=False)
    word, count, letters = reply[0].decode(), int(reply[1]), int(reply[2])
    if word == "HELD":
        raise DropRefused(
            f"Workers hold {count} deliveries of {name!r}, which may be running: wait until they have settled, or end "
            "them with --force; what comes of their handlers is then void."
        )
    if word == "DEAD":
        raise DropRefused(
            f"{count} dead letters of {name!r} are kept: decide about them first with `eventbus dead`, or remove them "
            "with --dead-letters."
        )
    return Step(count, letters, word == "GONE")
