"""Broken builds: each plants one fault in the process that loads the application, and the checker must catch it.

Those of scripts change their text before any is loaded; those of Python replace one function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VARIABLE = "CHAOS_MUTATION"


def plant(name: str) -> None:
    """Break this process's build; the empty name leaves it whole.

    Raises:
        LookupError: there is no such mutation, or the code it breaks has changed.
    """
    if name:
        MUTATIONS[name]()


def _in_scripts(*edits: tuple[str, str]) -> Callable[[], None]:
    def planted() -> None:
        from events import scripts

        texts = scripts.sources()
        for old, new in edits:
            if not any(old in text for text in texts.values()):
                raise LookupError(f"No script has the text that is to be broken: {old!r}")
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        scripts.sources = lambda: dict(texts)

    return planted


def _ack_before_handling() -> None:
    """Acknowledge and forget a delivery as soon as it is read."""
    from events.deliveries import Deliveries

    read = Deliveries.read

    def reading(self: Any, *arguments: Any, **named: Any) -> Any:
        leases = read(self, *arguments, **named)
        for lease in leases:
            queue = self.namespace.keys("queue", lease.subscriber)
            self.namespace.client.xack(queue, "fleet", lease.entry_id)
            self.namespace.client.xdel(queue, lease.entry_id)
        return leases

    Deliveries.read = reading  # type: ignore[method-assign]


def _lease_never_renewed() -> None:
    from workers.keeper import LeaseKeeper

    LeaseKeeper.start = lambda self: None  # type: ignore[method-assign]


def _inbox_outside() -> None:
    """Commit that a handler's effects are there before they are."""
    from sqlalchemy.orm import Session

    from store import inbox
    from tests.chaos import app

    once = inbox.once

    def outside(session: Any, *arguments: Any, **named: Any) -> bool:
        with Session(app.engine()) as own, own.begin():
            return once(own, *arguments, **named)

    inbox.once = outside


_OFFER = "offer(r, frame_of(r, e, position, root, depth, within), lane_of(r, e, root), position .. ':0')\n"
_AGAIN = "local frame = next_frame(item)\n"

MUTATIONS: dict[str, Callable[[], None]] = {
    "ack_before_handling": _ack_before_handling,
    "no_fencing": _in_scripts(("local mine = count and count == tonumber(ARGV[at + 2]) -- fence", "local mine = true")),
    "trim_without_archive": _in_scripts(("math.min(tonumber(ARGV[4]), position + 1)", "position + 100000000")),
    "lease_never_renewed": _lease_never_renewed,
    "publish_not_atomic": _in_scripts((f"      {_OFFER}", f"      if clock % 50 ~= 7 then {_OFFER.strip()} end\n")),
    "lost_retry": _in_scripts(("redis.call('ZADD', r.delayed, whole(now + tonumber(item.delay)), frame)", "")),
    "double_release": _in_scripts((_AGAIN, f"{_AGAIN}let_go(r, lane, name_of(frame))\n")),
    "inbox_outside": _inbox_outside,
}
