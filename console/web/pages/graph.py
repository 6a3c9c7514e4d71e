"""*Causation graph*: everything that a root set off. The outline is the same tree, for who sees no canvas."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from console.web.api import history, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit
from events.errors import EventNotFound

OUTLINED = 300


async def show(visit: Visit) -> Response:
    """Show the tree of which the event is a part, from its root.

    Raises:
        EventNotFound: there is no such event.
    """
    id = visit.one("id")
    recorded = await visit.house.read(lambda: visit.house.backend.replay.find(id)) if id else None
    if recorded is None:
        raise EventNotFound(f"There is no event {id!r:.200} in history or store: check the id, and the namespace.")
    root = await _root(visit, id)
    tree = await visit.ask(history.get_tree, questions.Tree(depth=None, limit=OUTLINED), event_id=root)
    return render(visit, "graph.html", id=id, root=root, tree=tree, top=tree["nodes"][0])


async def _root(visit: Visit, id: str) -> str:
    """Return the first of an event's causes that is known."""
    chain: list[dict[str, Any]] = (await visit.ask(history.get_chain, event_id=id))["events"]
    return str(chain[0]["event_id"]) if chain else id


PAGE = Page(path="/graph", call=show)
