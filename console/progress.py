"""A bar on stderr while something long runs; off a terminal a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from console.printing import console

LINE_EVERY = 100_000


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far something is; call what this gives with each number of steps done.

    Args:
        what: what is done to what, e.g. `events exported`. total: steps to do; None when nobody knows.
    """
    if not sys.stderr.isatty():
        yield _lines(what)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda steps: shown.advance(task, steps)


@contextmanager
def phases(whats: Sequence[str], total: int | None) -> Iterator[list[Callable[[int], None]]]:
    """Show how far each phase of something is, see `progress`; the first step of one ends the one before."""
    with ExitStack() as shown:
        yield [_phase(shown, what, total) for what in whats]


def _phase(shown: ExitStack, what: str, total: int | None) -> Callable[[int], None]:
    step: Callable[[int], None] | None = None

    def begun(steps: int) -> None:
        nonlocal step
        if step is None:
            shown.close()
            step = shown.enter_context(progress(what, total))
        step(steps)

    return begun


def _lines(what: str) -> Callable[[int], None]:
    done = 0

    def step(steps: int) -> None:
        nonlocal done
        before, done = done, done + steps
        if before // LINE_EVERY != done // LINE_EVERY:
            print(f"{done:,} {what} ...", file=sys.stderr, flush=True)

    return step
