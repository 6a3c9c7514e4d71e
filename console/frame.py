"""What `eventbus top` shows, as lines that fit a terminal: what needs attention is never left out for what does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from console import wording
from console.colour import painted
from console.printing import plain
from console.sparkline import sparkline
from console.standing import state
from console.web.live.attention import attention

if TYPE_CHECKING:
    from console.watch import View
    from console.web.live.pulse import Sample
    from events.roster import Worker
    from events.standing import Standing

NARROWEST = 40
MAX_FINDINGS = 4
_BOLD, _DIM, _REVERSED = "1", "2", "7"
_LEVELS = {"wrong": "1;31", "warning": "33", "note": "36"}

Line = tuple[str, str]  # its text, and the code of its colour


def frame(view: View, namespace: str, columns: int, rows: int | None, *, colour: bool = False) -> list[str]:
    """Return the lines of a frame.

    Args:
        columns: how wide; below `NARROWEST` lines are cut. rows: how high; None is as high as it takes.
        colour: with the codes that terminals take for colours.
    """
    lines = [*_head(view, namespace, columns)]
    if view.sample is not None:
        lines += _body(view.sample, columns, None if rows is None else max(0, rows - len(lines)))
    shown = lines if rows is None else lines[:rows]
    return [_fitted(text, columns, code if colour else "") for text, code in shown]


def _head(view: View, namespace: str, columns: int) -> Iterator[Line]:
    sample = view.sample
    when = wording.moment(sample.at)[:19] + " UTC" if sample else ""
    left = f"eventbus top  {namespace}"
    yield f"{left} {when.rjust(columns - cell_len(left) - 1)}", _REVERSED
    if view.trouble:
        yield f"Waiting: {plain(view.trouble)}", _LEVELS["wrong"]
    if sample is None:
        if not view.trouble:
            yield "Looking ...", _DIM
        return
    rates = f"{_rate(view.events_per_s)} events/s   {_rate(view.settled_per_s)} ended/s   "
    rates += f"{_rate(view.failures_per_s)} failures/s  "
    yield rates + sparkline([round(n * 100) for n in view.history[-max(0, columns - len(rates)) :]]), _BOLD
    queues = [one.queue for one in sample.subscribers]
    running = sum(worker.said.running for worker in sample.workers if worker.is_alive)
    yield (
        f"waiting {sum(q.ready + q.waiting for q in queues):,}   running {running:,}   "
        f"retries {sum(q.delayed for q in queues):,}   dead {sum(q.dead for q in queues):,}   "
        f"events {sample.published:,}",
        "",
    )
    yield f"archive: {_archive(sample)}", ""
    spent = wording.sums(sample.spent) or wording.money(0)
    yield f"spent: {spent}, today {wording.sums(sample.spent_today) or wording.money(0)}", ""


def _body(sample: Sample, columns: int, rows: int | None) -> list[Line]:
    """Return findings, subscribers and workers; where there is no room for all, the calm ones are left out."""
    findings = [
        (plain(found["says"]), _LEVELS[found["level"]])
        for found in attention(sample.subscribers, sample.workers, sample.backlog)
    ]
    subscribers = [_subscriber(one, columns) for one in sorted(sample.subscribers, key=_urgency)]
    workers = [line for worker in sorted(sample.workers, key=_business) for line in _worker(worker, columns)]
    if rows is not None:
        room = rows - 4  # two headings, two empty lines
        findings = _at_most(findings, min(MAX_FINDINGS, max(1, room // 3)), "finding")
        room -= len(findings)
        half = max(1, room // 2, room - len(workers))
        subscribers = _at_most(subscribers, half, "subscriber")
        workers = _at_most(workers, max(1, room - len(subscribers)), "line")
    heading = _columns(columns, "SUBSCRIBER", "WAITING", "OLDEST", "RUNS", "RETRY", "DEAD", "PROCS", "STATE")
    return [
        *findings,
        ("", ""),
        (heading, _DIM),
        *(subscribers or [("Nobody is subscribed.", _DIM)]),
        ("", ""),
        (_process(columns, "WORKER", "STATE", "UP FOR", "RUNS", "BUSY WITH"), _DIM),
        *(workers or [("No worker is there: start one with `eventbus worker` or `eventbus dev`.", _DIM)]),
    ]


def _at_most(lines: list[Line], most: int, noun: str) -> list[Line]:
    if len(lines) <= most:
        return lines
    left = len(lines) - most + 1
    return [*lines[: most - 1], (f"... and {wording.plural(left, f'more {noun}', f'more {noun}s')}", _DIM)]


def _archive(sample: Sample) -> str:
    backlog = sample.backlog
    more = "+" if backlog.unarchived_is_lower_bound else ""
    events = wording.plural(backlog.unarchived, f"{'or more ' if more else ''}event")
    if not (backlog.unarchived or backlog.outcomes):
        return "has everything"
    oldest_s = max(backlog.oldest_s or 0.0, backlog.outcomes_oldest_s or 0.0)
    return f"{wording.duration(oldest_s * 1000)} behind, {events} and {wording.plural(backlog.outcomes, 'outcome')}"


def _subscriber(one: Standing, columns: int) -> Line:
    queue = one.queue
    oldest = "" if queue.oldest_s is None else wording.duration(queue.oldest_s * 1000)
    words = "" if state(one) == "live" else state(one)
    is_orphaned = one.is_orphaned and bool(queue.unsettled)
    text = _columns(
        columns, queue.subscriber, f"{queue.ready + queue.waiting:,}{'+' if queue.is_bounded else ''}", oldest,
        f"{queue.running:,}", f"{queue.delayed:,}", f"{queue.dead:,}", str(len(one.workers)),
        "orphaned" if is_orphaned and not words else words,
    )  # fmt: skip
    if is_orphaned:
        return text, _LEVELS["wrong"]
    if queue.dead or words:
        return text, _LEVELS["warning"]
    return text, "" if queue.unsettled else _DIM


def _worker(worker: Worker, columns: int) -> Iterator[Line]:
    said = worker.said
    words = "silent" if not worker.is_alive else "draining" if said.draining else "alive"
    lived_s = max(0.0, worker.seen_at.timestamp() - said.started_at) if said.started_at else None
    up_for = "" if lived_s is None else wording.duration(lived_s * 1000)
    runs = [
        f"{run.subscriber} {run.type} {wording.duration(run.for_s * 1000)}"
        + (f" (attempt {run.attempt})" if run.attempt > 1 else "")
        for run in said.busy[:3]
    ]
    name = f"{said.host} {said.pid}" if said.pid else worker.consumer
    code = _LEVELS["wrong"] if not worker.is_alive else "" if said.running else _DIM
    yield _process(columns, name, words, up_for, f"{said.running:,}", runs[0] if runs else ""), code
    for run in runs[1:]:
        yield _process(columns, "", "", "", "", run), code


def _columns(columns: int, name: str, *rest: str) -> str:
    """Lay out a subscriber: numbers at the right, its name as wide as there is room, its state last."""
    widths = (8, 11, 5, 5, 5, 5)
    room = min(40, max(12, columns - sum(widths) - len(widths) - 14))
    cells = [set_cell_size(name, room), *(text.rjust(width) for text, width in zip(rest, widths, strict=False))]
    return " ".join(cells) + f" {rest[-1]}".rstrip()


def _process(columns: int, name: str, words: str, up_for: str, runs: str, busy: str) -> str:
    room = min(32, max(12, columns - 60))
    return f"{set_cell_size(name, room)} {words:<8} {up_for:<11} {runs:>5}  {busy}".rstrip()


def _fitted(text: str, columns: int, code: str) -> str:
    if cell_len(text) > columns:
        text = set_cell_size(text, max(0, columns - 1)).rstrip() + "…"
    return painted(text, code) if code else text


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _urgency(one: Standing) -> tuple[int, float, str]:
    queue = one.queue
    worst = 0 if one.is_orphaned and queue.unsettled else 1 if queue.unsettled else 2 if queue.dead else 3
    return worst, -(queue.oldest_s or 0.0), queue.subscriber


def _business(worker: Worker) -> tuple[bool, int, str]:
    return worker.is_alive, -worker.said.running, worker.consumer


def text_of(lines: Sequence[str]) -> str:
    """Return a frame as what a pipe gets."""
    return "\n".join(line.rstrip() for line in lines)
