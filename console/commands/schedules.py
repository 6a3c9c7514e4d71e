"""`eventbus schedules`: the cron schedules that workers run."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from console import wording
from console.agenda import schedule_object
from console.exits import Mistake, reporting
from console.options import Json, JsonArray
from console.printing import console, print_json
from console.punctuality import is_late, next_slot

if TYPE_CHECKING:
    from events.slots import PlannedSchedule


group = typer.Typer(
    no_args_is_help=True,
    help="List and forget the cron schedules that workers run.\n\n"
    "\b\nExamples:\n  eventbus schedules list\n  eventbus schedules forget --help\n",
)


@group.command("list")
@reporting
def list_(as_json: JsonArray = False) -> None:
    """List the schedules that workers run, or have run.

    As workers declared them. A next slot that is past is one that nobody fires: no worker runs the
    schedule, or its factory fails, which the workers' logs tell.

    \b
    Examples:
      eventbus schedules list
      eventbus schedules list --json
    """
    from console.opening import reading
    from events.slots import Slots

    with reading() as backend:
        found = Slots(backend.namespace, backend.settings.max_routes).all()
    shown = [(planned, next_slot(planned)) for planned in found]
    if as_json:
        print_json(list(map(schedule_object, found)))
    elif not shown:
        print("No worker has run a schedule; `bus.every` makes one.", file=sys.stderr)
    else:
        _print(shown)


@group.command("forget")
@reporting
def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")],
    as_json: Json = False,
) -> None:
    """Remove a schedule, with its cursor.

    For one that is gone from the code. One that code still has begins anew, from now, when the next worker
    that runs it starts.

    \b
    Examples:
      eventbus schedules forget nightly
    """
    from console.opening import reading
    from events.slots import Slots

    with reading() as backend:
        if not Slots(backend.namespace, backend.settings.max_routes).forget(name):
            raise Mistake(f"There is no schedule {name!r}; `eventbus schedules list` shows those that there are.")
    if as_json:
        print_json({"forgot": name})
    else:
        print(f"Forgot the schedule {name!r}.")


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
