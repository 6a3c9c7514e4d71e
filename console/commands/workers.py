"""`eventbus workers list`: who is there, and what they are busy with."""

from __future__ import annotations

import typer

from console.exits import reporting
from console.options import JsonArray
from console.printing import console, print_json

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@group.callback()
def _about() -> None:
    """Show the worker processes of the fleet.

    \b
    Examples:
      eventbus workers list
      eventbus workers list --json
    """


@group.command("list")
@reporting
def list_(as_json: JsonArray = False) -> None:
    """Show which worker processes live, and what each is busy with.

    A process beats once a second. One that is silent was killed, is stalled, or cannot reach Redis; its
    deliveries go to others when their lease ends, and it is shown until about ten leases have passed.
    Moments are by the clock of the Redis server. JSON has up to ten of a process's runs, the longest first.

    \b
    Examples:
      eventbus workers list
      eventbus workers list --json | python -m json.tool
    """
    from console.opening import reading
    from console.roster import print_workers, worker_object
    from events.inspection import Inspection

    with reading() as backend:
        workers = Inspection(backend.namespace).workers()
    if as_json:
        print_json([worker_object(worker) for worker in workers])
    else:
        print_workers(console(), workers)
