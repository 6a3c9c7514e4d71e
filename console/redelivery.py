"""`eventbus replay --to`: says what will be delivered again, asks, and shows how far it has come."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console import wording
from console.confirming import agreed
from console.deciding import who
from console.printing import EventLines, console, event_object, print_json

if TYPE_CHECKING:
    from events.backend import Backend
    from events.redelivery import Under
    from workers.redelivery import Question, Redelivery

LINE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for.

    Attributes:
        to: the subscriber. question: what; None goes on with what is under way.
        rate: most events a second. reason: kept with each delivery. yes: do not ask.
    """

    to: str
    question: Question | None
    rate: float | None
    reason: str
    dry_run: bool
    yes: bool
    as_json: bool


def carry_out(backend: Backend, order: Order) -> None:
    """Deliver again what is asked for, or only say what that would be."""
    driver = _driver(backend, order)
    under = driver.look()
    if order.question is None and not under.is_there:
        _tell_of_none(order.to, order.as_json)
        return
    if order.question is not None:
        _warn_of_types(order.question, under)
    if under.is_there and order.dry_run:
        _tell_of(under, order)
    elif under.is_there or (order.yes and not order.dry_run) or _rehearse(driver, order):
        _run(driver, order.question, order)


def _rehearse(driver: Redelivery, order: Order) -> bool:
    """Say what would be delivered; return whether it is to be."""
    assert order.question is not None
    rehearsed = driver.rehearse(order.question)
    count = wording.plural(rehearsed.count, "event")
    if order.dry_run and order.as_json:
        first = [event_object(recorded) for recorded in rehearsed.first]
        print_json({"to": order.to, "count": rehearsed.count, "dry_run": True, "first": first})
        return False
    out = sys.stderr if order.as_json else sys.stdout
    print(f"{count} would be delivered to {order.to} again{_besides(rehearsed.unpublished)}.", file=out)
    if not order.as_json and EventLines().print(rehearsed.first) < rehearsed.count:
        print("...")
    if order.dry_run or not rehearsed.count:
        print("Nothing was changed.", file=out)
        return False
    return agreed(f"Deliver {count} to {order.to} again?", order.yes)


def abandon(backend: Backend, to: str, *, as_json: bool) -> None:
    """Give up what is under way."""
    from workers.redelivery import Redelivery

    under = Redelivery(backend.namespace, backend.registry, backend.replay, to).abandon()
    if under.verdict != "given":
        _tell_of_none(to, as_json)
    elif as_json:
        print_json({"to": to, "made": under.made, "position": under.cursor, "verdict": under.verdict})
    else:
        made = wording.plural(under.made, "delivery", "deliveries")
        print(f"Given up at position {under.cursor}; {made} made so far, which stay.")


def _driver(backend: Backend, order: Order) -> Redelivery:
    from workers.redelivery import Redelivery

    return Redelivery(
        backend.namespace, backend.registry, backend.replay, order.to, who=who(), why=order.reason, rate=order.rate
    )  # fmt: skip


def _run(driver: Redelivery, question: Question | None, order: Order) -> None:
    with _stopped_by_ctrl_c(driver), _showing(order.to) as show:
        under = driver.run(question, show)
    if driver.stop.is_set() and under.verdict != "ended":
        made = wording.plural(under.made, "event")
        print(
            f"Interrupted, {made} delivered: `eventbus replay --to {order.to} --resume` goes on with it.",
            file=sys.stderr,
        )
        raise KeyboardInterrupt
    if order.as_json:
        print_json({"to": order.to, "made": under.made, "number": under.number, "verdict": under.verdict})
    elif under.verdict == "none":
        made = wording.plural(under.made, "event")
        print(
            f"The redelivery to {order.to} is under way no more: somebody else has ended it, or Redis has lost it. "
            f"When it was seen last it had delivered {made}."
        )
    else:
        made = wording.plural(under.made, "event")
        print(f"Delivered {made} to {order.to} again, as redelivery {under.number}.")


def _tell_of_none(to: str, as_json: bool) -> None:
    if as_json:
        print_json({"to": to, "under_way": None})
    else:
        print(f"No redelivery to {to} is under way.", file=sys.stderr)


def _tell_of(under: Under, order: Order) -> None:
    made = wording.plural(under.made, "delivery", "deliveries")
    if order.as_json:
        print_json({"to": order.to, "under_way": under})
        return
    print(
        f"A redelivery to {order.to} is under way or was interrupted: it asked {under.question}, has come to position "
        f"{under.cursor} of {under.end}, and made {made}. --resume goes on with it, --abandon gives it up. "
        "Nothing was changed."
    )


def _warn_of_types(question: Question, under: Under) -> None:
    from workers.redelivery import not_taken

    if left_out := not_taken(question, under):
        print(f"Left out, because the subscriber does not take them: {', '.join(left_out)}.", file=sys.stderr)


@contextmanager
def _stopped_by_ctrl_c(driver: Redelivery) -> Iterator[None]:
    """End with the page that is under way when somebody presses Ctrl-C, not in the middle of a call."""
    before = signal.signal(signal.SIGINT, lambda *_: driver.stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _showing(to: str) -> Iterator[Callable[[Under], None]]:
    """Show a bar on a terminal, else a line now and then; both on stderr."""
    out = console(stderr=True)
    if out.is_terminal and not out.is_dumb_terminal:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=out, transient=True) as bar:
            task = bar.add_task(to, total=1.0)
            start: list[int] = []

            def draw(under: Under) -> None:
                start[:] = start or [under.cursor]
                bar.update(
                    task,
                    completed=_share(under, start[0]),
                    description=f"{to}: {under.made:,} delivered, {under.waiting:,} wait",
                )

            yield draw
        return
    said = [time.monotonic()]

    def say(under: Under) -> None:
        if time.monotonic() - said[0] >= LINE_EVERY_S:
            said[0] = time.monotonic()
            waits = f", {under.waiting:,} wait" if under.waiting else ""
            print(
                f"{under.made:,} delivered, at position {under.cursor} of {under.end}{waits}",
                file=sys.stderr,
                flush=True,
            )

    yield say


def _share(under: Under, start: int) -> float:
    """Return how much of the way is done, 0 to 1; positions are times, so a quiet stretch is passed quickly."""
    if under.verdict == "ended" or under.end <= start:
        return 1.0
    return (under.cursor - start) / (under.end - start)


def _besides(unpublished: int) -> str:
    return (
        f"; {wording.plural(unpublished, 'event')} left out that were persisted and never published"
        if unpublished
        else ""
    )
