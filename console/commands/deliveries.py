"""`eventbus deliveries`: every (event, subscriber), its attempts, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from console.exits import Mistake
from console.options import JsonLines, Project, no_more


def _states() -> list[str]:
    from store.tally import STATES

    return list(STATES)


def command(
    event: Annotated[
        str | None, typer.Argument(metavar="EVENT", help="An event's id, or its position: all about its deliveries.")
    ] = None,
    subscriber: Annotated[
        str | None, typer.Option("--subscriber", "-s", metavar="NAME", help="Only of this subscriber.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only waiting, done, dead, discarded or dropped.",
            autocompletion=_states,
        ),
    ] = None,
    project: Project = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="DELIVERY", help="Those after this one; names are in the list.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", callback=no_more, min=1, metavar="N", help="At most so many.")
    ] = 100,
    as_json: JsonLines = False,
) -> None:
    """Show what became of each event at each subscriber.

    Of one event also each attempt, with its time, its worker and its error; these are exact as of now. The list is
    exact as far as outcomes are archived: what ended a moment ago may be waiting there. A delivery that was made
    again has a row of its own.

    \b
    Examples:
      eventbus deliveries EV-...
      eventbus deliveries -s Painter --state dead --project P-1
      eventbus deliveries --state waiting --limit 500 --json
    """
    from console.deliveries import list_deliveries, show_event
    from console.opening import reading
    from store.deliveries import DeliveryFilter

    if event is not None and (subscriber or state or project or after):
        raise Mistake("Name an event, or give filters: of one event all deliveries are shown.")
    wanted = DeliveryFilter(subscriber=subscriber, state=state, project_id=project)
    with reading() as backend:
        if event is not None:
            show_event(backend, event, as_json)
        else:
            list_deliveries(backend, wanted, after, limit, as_json)
