"""`eventbus schedules`: the cron schedules that workers run."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from console import wording
from console.agenda import schedule_object
from console.exits import Mistake
from console.options import Json
from console.printing import console, print_json
from console.punctuality import is_late, next_slot

if TYPE_CHECKING:
    from events.slots import PlannedSchedule


def command(
    forget: Annotated[
        str | None,
        typer.Option("--forget", metavar="NAME", help="Remove a schedule; one that code still has begins anew."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the cron schedules that workers run, or have run.

    As workers declared them. A next slot that is past is one that nobody fires: no worker runs the
    schedule, or its factory fails, which the workers' logs tell.

    \b
    Examples:
      eventbus schedules
      eventbus schedules --forget nightly
    """
    from console.opening import reading
    from events.slots import Slots

    with reading() as backend:
        slots = Slots(backend.namespace, backend.settings.max_routes)
        if forget is not None:
            if not slots.forget(forget):
                raise Mistake(f"There is no schedule {forget!r}; `eventbus schedules` lists those that there are.")
            if as_json:
                print_json({"forgot": forget})
            else:
                print(f"Forgot the schedule {forget!r}.")
            return
        found = slots.all()
    shown = [(planned, next_slot(planned)) for planned in found]
    if as_json:
        print_json(list(map(schedule_object, found)))
    elif not shown:
        print("No worker has run a schedule; `bus.every` makes one.", file=sys.stderr)
    else:
        _print(shown)


def _print(shown: list[tuple[PlannedSchedule, datetime | None]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "CRON", "TIMEZONE", "MISSED", "LAST SLOT (UTC)", "NEXT SLOT (UTC)"):
        table.add_column(heading, no_wrap=True)
    for planned, following in shown:
        last = wording.moment(planned.last)[:19]
        late = " (overdue)" if is_late(following) else ""
        table.add_row(
            planned.name, planned.cron, planned.timezone, planned.missed, last, wording.moment(following)[:19] + late
        )
    console().print(table)
