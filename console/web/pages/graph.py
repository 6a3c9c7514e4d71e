"""*Causation graph*: everything that a root set off. The outline is the same tree, for who sees no canvas."""

from __future__ import annotations

from starlette.responses import Response

from console.web.api import history, questions
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit

OUTLINED = 300


async def show(visit: Visit) -> Response:
    """Show the tree of which the event is a part, from its root.

    Raises:
        EventNotFound: there is no such event.
    """
    id = visit.one("id")
    root = str((await visit.ask(history.get_chain, event_id=id))["events"][0]["event_id"])
    tree = await visit.ask(history.get_tree, questions.Tree(depth=None, limit=OUTLINED), event_id=root)
    return render(visit, "graph.html", id=id, root=root, tree=tree, top=tree["nodes"][0])


PAGE = Page(path="/graph", call=show)
