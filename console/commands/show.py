"""`eventbus show`: one event, with its payload, its causes, its effects and its deliveries."""

from __future__ import annotations

from typing import Annotated

import typer

from console.options import Json
from console.printing import console, print_json


def command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, or its position.")],
    as_json: Json = False,
) -> None:
    """Show all that is known of one event.

    Its fields with payload and metadata, why it happened (from its root on), what it caused directly, and
    what became of it at each subscriber. `eventbus tree` shows all that it set off, `eventbus deliveries`
    each attempt. In --json causes and effects are told without their payloads.

    \b
    Examples:
      eventbus show EV-...
      eventbus show 1767225600000000 --json | jq .payload
    """
    from console.event import print_shown, shown, shown_object
    from console.opening import reading

    with reading() as backend:
        one = shown(backend, event)
    if as_json:
        print_json(shown_object(one))
    else:
        print_shown(console(), one)
