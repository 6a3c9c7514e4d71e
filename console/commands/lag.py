"""`eventbus lag`: what each subscriber has before it, and who is there to do it."""

from __future__ import annotations

from typing import Annotated

import typer

from console.options import Json
from console.printing import console, print_json


def command(
    subscribers: Annotated[
        list[str] | None, typer.Argument(metavar="SUBSCRIBER", help="Only these; all of them unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what waits for each subscriber, and since when.

    And how many workers handle it, and how much they can take at once: for whoever starts and stops
    workers by need. The subscribers of a process share its places, which count for each of them: capacities
    do not add up. A + follows what may be more. --json prints one object, with an object for each subscriber,
    whose fields docs/operations.md explains. It changes nothing and costs little.

    \b
    Examples:
      eventbus lag
      eventbus lag VideoGen MusicComposer --json
      eventbus lag --json | jq '.VideoGen.lag'
    """
    from console.opening import reading
    from console.roster import lag_object, print_lags
    from events.inspection import Inspection
    from events.standing import unknown

    with reading() as backend:
        inspection = Inspection(backend.namespace)
        missing = sorted({*(subscribers or ())} - {*inspection.subscribers()})
        if missing:
            raise unknown(backend.namespace, missing[0])
        lags = inspection.lags(subscribers or None)
    if as_json:
        print_json({lag.queue.subscriber: lag_object(lag) for lag in lags})
    else:
        print_lags(console(), lags)
