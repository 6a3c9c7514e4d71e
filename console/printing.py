"""Printing: JSON with plain print, events as lines that stream, tables and trees with rich.

rich drops colour off a terminal and under NO_COLOR by itself. Nothing here reads markup: a project
may be called `[red]`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from console import wording
from console.colour import has_colour, of_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from events.records import RecordedEvent

_MEASURED = 200
_OFF_TERMINAL_WIDTH = 160
_UNLIMITED = 10_000
HEADINGS = ("POSITION", "TIME (UTC)", "TYPE", "ACTOR", "PROJECT", "COST", "EVENT")


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that never wraps for a terminal that is not there."""
    from rich.console import Console

    class PipeAware(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if is_terminal or "COLUMNS" in os.environ else _OFF_TERMINAL_WIDTH
    return PipeAware(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def print_fitting(out: Console, *tables: Table) -> None:
    """Print the first of these tables that the terminal is wide enough for; the last one whatever it takes."""
    unlimited = out.options.update(width=_UNLIMITED)
    for table in tables:
        width = out.measure(table, options=unlimited).maximum
        if width <= out.width:
            break
    out.print(table, width=max(width, 1), crop=False)


def plain(text: str, keeps: str = "") -> str:
    """Return text without control characters and what no terminal shows; they are written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keeps else char.encode("unicode_escape").decode() for char in text
    )


def print_json(value: Any) -> None:
    """Print a value as JSON on one line."""
    print(json.dumps(value, ensure_ascii=False, default=_plain))


def event_object(recorded: RecordedEvent) -> dict[str, Any]:
    """Return an event at its position as JSON shows it; `eventbus publish --file` reads the same."""
    event = recorded.event
    return {
        "position": recorded.position,
        "event_id": event.event_id,
        "project_id": event.project_id,
        "type": event.type.value,
        "actor": event.actor,
        "causation_id": event.causation_id,
        "correlation_id": event.correlation_id,
        "timestamp": event.timestamp,
        "payload": event.payload,
        "blackboard_pointer": event.blackboard_pointer,
        "metadata": event.metadata,
        "depth": recorded.depth,
        "deliveries": recorded.deliveries,
        "origin": recorded.origin,
    }


class Lines:
    """Rows as aligned lines, printed as they come; the first ones decide the widths.

    Args:
        headings: of the columns. right: those that are aligned to the right.
        named: those that hold names, each in its own colour on a terminal.
        cuts: on a terminal that is too narrow a line is cut; else its last column is left out.
    """

    def __init__(
        self,
        headings: Sequence[str],
        right: Collection[str] = (),
        named: Collection[str] = (),
        *,
        cuts: bool = False,
    ) -> None:
        self._headings = headings
        self._right = right
        self._named = named
        self._cuts = cuts
        self._widths: list[int] = []
        self._limit = _terminal_width()
        self._has_colour = bool(self._limit) and has_colour()

    def rows(self, rows: Iterable[Sequence[str]]) -> int:
        """Print rows; return how many there were."""
        stream = iter(rows)
        head = list(islice(stream, _MEASURED)) if not self._widths else []
        if head:
            self._widths = [max(map(len, column)) for column in zip(self._headings, *head, strict=True)]
            self._line(self._headings)
        count = 0
        for row in chain(head, stream):
            self._line(row)
            count += 1
        sys.stdout.flush()
        return count

    def _line(self, row: Sequence[str]) -> None:
        cells = [
            text.rjust(width) if heading in self._right else text.ljust(width)
            for heading, text, width in zip(self._headings, row, self._widths, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        if self._limit and len(line) > self._limit:
            if self._cuts:
                print(f"{line[: self._limit - 1]}…")
                return
            cells.pop()
        if self._has_colour and row is not self._headings:
            cells = [
                of_name(cell) if heading in self._named else cell
                for heading, cell in zip(self._headings, cells, strict=False)
            ]
        print("  ".join(cells).rstrip())


class EventLines(Lines):
    """Events as lines; where they do not fit, the id is left out: the position is as good."""

    def __init__(self) -> None:
        super().__init__(HEADINGS, ("COST",), ("TYPE", "ACTOR", "PROJECT"))

    def print(self, events: Iterable[RecordedEvent]) -> int:
        """Print events; return how many there were."""
        return self.rows(map(_row, events))


def _row(recorded: RecordedEvent) -> tuple[str, ...]:
    event = recorded.event
    return (
        str(recorded.position),
        wording.moment(event.timestamp),
        plain(event.type.value),
        plain(event.actor),
        plain(event.project_id),
        plain(wording.money(event.cost, event.metadata.get("currency"))),
        plain(event.event_id),
    )


def _terminal_width() -> int:
    """Return the terminal's width; 0 when stdout is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return wording.instant(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
