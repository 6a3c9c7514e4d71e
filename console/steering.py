"""What the commands of `eventbus subscriptions` do, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from console.confirming import confirm
from console.exits import Mistake
from console.printing import print_json
from console.standing import limit
from console.wording import plural
from events.errors import UnknownSubscriber

if TYPE_CHECKING:
    from events.backend import Backend
    from events.standing import Standing
    from workers.operating import Steered

CODE = "code"
Say = Callable[[str], None]


def pause(backend: Backend, name: str, say: Say = print) -> None:
    """Pause a subscriber, and wait until every worker has said that it heeds it.

    Raises:
        EventBusError: a worker has not, or the store does not have it; the pause holds.
    """
    from events.errors import EventBusError
    from events.steering import until_heeded
    from workers.operating import steer_durably

    done = steer_durably(backend.namespace, backend.registry, name, paused=True)
    silent = until_heeded(backend.namespace, name)
    back = plural(done.taken_back, "delivery that was ready waits", "deliveries that were ready wait")
    say(f"{name} is paused: nothing more begins{f', and {back} again' if done.taken_back else ''}.")
    _require_kept(name, done)
    if silent:
        raise EventBusError(
            f"{plural(len(silent), 'worker that holds some of it has', 'workers that hold some of it have')} not said "
            f"so ({', '.join(silent)}): killed, stalled, or cut off from Redis. What they hold they may still start, "
            "until their leases end."
        )


def resume(backend: Backend, name: str, say: Say = print) -> None:
    """Let a paused subscriber go on."""
    from workers.operating import steer_durably

    done = steer_durably(backend.namespace, backend.registry, name, paused=False)
    found = _standing(backend, name)
    waits = plural(found.queue.unsettled, "delivery is", "deliveries are")
    nobody = "" if found.workers else ", but no live worker takes it"
    say(f"{name} goes on: {waits} not settled{nobody}.")
    _require_kept(name, done)


def limits(concurrency: str | None, rate: str | None) -> dict[str, Any]:
    """Read the values of limits: a number, `none` or `code`.

    Raises:
        Mistake: naming the option and its value.
    """
    changes: dict[str, Any] = {}
    for option, text, change, kind in (
        ("--concurrency", concurrency, "concurrency", int),
        ("--rate", rate, "rate_limit", float),
    ):
        if text is None:
            continue
        word = text.strip().lower()
        try:
            changes[change] = None if word == "none" else CODE if word == CODE else kind(word)
        except ValueError:
            what = "a whole number" if kind is int else "a number of deliveries a second"
            raise Mistake(f"{option} must be {what}, `none` or `code`, not {text!r}.") from None
    return changes


def set_limits(backend: Backend, name: str, changes: Mapping[str, Any], say: Say = print) -> None:
    """Set limits, and say which hold."""
    from workers.operating import steer_durably

    done = steer_durably(backend.namespace, backend.registry, name, **changes)
    found = _standing(backend, name)
    say(f"{name}: concurrency {limit(found.concurrency)}, rate {limit(found.rate, ' a second')}.")
    _require_kept(name, done)


def would_drop(backend: Backend, name: str, *, force: bool, dead_letters: bool, as_json: bool = False) -> None:
    """Say what a drop would do, and what would keep it from that."""
    found = _standing(backend, name)
    queue = found.queue
    if as_json:
        is_refused = _is_refused(found, force, dead_letters)
        deliveries_left = queue.unsettled + found.parked
        print_json({
            "subscriber": name, "dry_run": True, "deliveries": deliveries_left, "dead_letters": queue.dead,
            "would_be_refused": is_refused,
        })  # fmt: skip
        return
    more = "at least " if queue.is_bounded else ""
    types = f" ({', '.join(queue.types)})" if queue.types else ""
    deliveries = plural(queue.unsettled + found.parked, "delivery", "deliveries")
    print(
        f"Would remove {plural(len(queue.types), 'route')}{types} and end {more}{deliveries} of {name}: "
        f"{queue.ready:,} ready, {queue.running:,} held by workers, {queue.waiting + found.parked:,} waiting, "
        f"{queue.delayed:,} to be retried."
    )
    if queue.dead:
        letters = plural(queue.dead, "dead letter")
        print(f"Would remove {letters}." if dead_letters else f"Would refuse, without --dead-letters: {letters} kept.")
    if found.workers:
        takes = plural(len(found.workers), "live worker takes", "live workers take")
        print(
            f"Would {'come back as a new subscriber' if force else 'refuse, without --force'}: "
            f"{takes} it ({', '.join(found.workers)})."
        )
    elif queue.running and not force:
        print(f"Would refuse, without --force: {plural(queue.running, 'delivery is', 'deliveries are')} held.")


def _is_refused(found: Standing, force: bool, dead_letters: bool) -> bool:
    queue = found.queue
    return bool(queue.dead and not dead_letters) or bool((found.workers or queue.running) and not force)


def ask_to_drop(backend: Backend, name: str, yes: bool, *, force: bool, dead_letters: bool) -> None:
    """Ask whether a subscriber is to go, with what ends then.

    Nobody is asked about what is refused, and about one that Redis does not have: a drop that was interrupted may
    have left it in the store.

    Raises:
        Mistake: there is nobody to ask.
    """
    if yes:
        return
    try:
        found = _standing(backend, name)
    except UnknownSubscriber:
        return
    if _is_refused(found, force, dead_letters):
        return
    more = "at least " if found.queue.is_bounded else ""
    what = f"{more}{plural(found.queue.unsettled + found.parked, 'delivery', 'deliveries')}"
    what += f" and {plural(found.queue.dead, 'dead letter')}" if dead_letters else ""
    confirm(f"Drop {name} and end {what} for good?", yes)


def drop(backend: Backend, name: str, *, force: bool, dead_letters: bool, as_json: bool = False) -> None:
    """Drop a subscriber, and say what that ended."""
    from workers.operating import drop as drop_durably

    gone = drop_durably(backend.namespace, backend.registry, name, force=force, dead_letters=dead_letters)
    if as_json:
        told = {"deliveries": gone.deliveries, "dead_letters": gone.dead_letters, "is_back": gone.is_back}
        print_json({"subscriber": name, "dry_run": False} | told)
        return
    ended = plural(gone.deliveries, "delivery", "deliveries")
    print(f"Dropped {name}: {ended} and {plural(gone.dead_letters, 'dead letter')} ended.")
    if gone.is_back:
        print(f"A worker has declared {name} again meanwhile, as a new subscriber: deploy code without it.")


def would_remove(backend: Backend, name: str, types: Sequence[str], *, as_json: bool = False) -> None:
    """Say which types a removal would take."""
    found = _standing(backend, name)
    gone = [kind for kind in found.queue.types if kind in types]
    if as_json:
        print_json({"subscriber": name, "dry_run": True, "types": gone})
        return
    print(f"Would route {name} no more {', '.join(gone)}." if gone else f"{name} is routed none of these.")


def remove(backend: Backend, name: str, types: Sequence[str], *, as_json: bool = False) -> None:
    """Remove types of a subscriber, and say which code would bring them back."""
    from workers.operating import remove_types

    gone = remove_types(backend.namespace, backend.registry, name, types)
    declaring = _declaring(backend, name, types)
    if as_json:
        print_json({"subscriber": name, "dry_run": False, "types": list(gone), "declared_by": declaring})
        return
    print(f"{name} is routed no more {', '.join(gone)}." if gone else f"{name} was routed none of these.")
    if declaring:
        print(
            f"The code of {plural(len(declaring), 'live worker')} still declares it ({', '.join(declaring)}): "
            "the next one that starts brings it back."
        )


def _declaring(backend: Backend, name: str, types: Sequence[str]) -> list[str]:
    from events.standing import live_workers

    wanted = set(types)
    return [
        worker.consumer
        for worker in live_workers(backend.namespace)
        if wanted.intersection(worker.said.types.get(name, ()))
    ]


def _require_kept(name: str, done: Steered) -> None:
    from events.errors import StoreUnavailable

    if done.trouble:
        raise StoreUnavailable(
            f"{done.trouble} What was set of {name} holds, but a Redis that lost its data would forget it: repeat this "
            "command when the database answers."
        )


def _standing(backend: Backend, name: str) -> Standing:
    from events.standing import standings

    return standings(backend.namespace, [name])[0]
