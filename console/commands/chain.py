"""`eventbus chain`: why an event happened, and everything that its root set off."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from console.options import Json
from console.printing import console, event_object, print_json

if TYPE_CHECKING:
    from events.backend import Backend
    from store.tree import CausationTree

_PAGE = 500


def command(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, or its position.")],
    tree: Annotated[
        bool, typer.Option("--tree", help="Show the whole causation tree of the event's root, with totals.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show why an event happened, and what it cost.

    Its causes, oldest first, each with cost and latency; the event itself comes last. The root is the
    first event of the chain. A cause that is not there ends it, and is named. With --tree, --json prints one event
    a line. `eventbus tree` shows more of trees, and parts of them.

    \b
    Examples:
      eventbus chain EV-...
      eventbus chain EV-... --tree
      eventbus chain 1767225600000000 --json
    """
    from console import causation
    from console.named import event_id_of
    from console.opening import reading
    from console.tree import Shown, missing_sentence, print_tree
    from store.causation import missing_link

    with reading() as backend:
        event_id = event_id_of(backend, event)
        chain = backend.blackboard.causation.chain(event_id)
        if not tree:
            if as_json:
                print_json(causation.chain_object(chain))
            else:
                causation.print_chain(console(), chain)
                if link := missing_link(chain):
                    print(missing_sentence(link))
            return
        whole = backend.blackboard.causation.tree(chain[0].event.event_id)
        if as_json:
            _print_whole(backend, whole)
        else:
            print_tree(console(), whole, Shown(marked=event_id))


def _print_whole(backend: Backend, tree: CausationTree) -> None:
    """Print a tree's events with their payloads, which a tree does not hold: a page of them at a time."""
    from console.tree import totals

    nodes = tree.walk()
    while page := list(islice(nodes, _PAGE)):
        found = backend.blackboard.replay.find_all([node.event.event_id for _, node in page])
        for level, node in page:
            if recorded := found.get(node.event.event_id):
                print_json({"level": level, **event_object(recorded), **totals(node)})
