"""*An event*: what it says, why it happened, what it set off, and what became of every delivery."""

from __future__ import annotations

from starlette.responses import Response

from console.printing import event_object
from console.web.api import fleet, history
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit

MOST_CHILDREN = 200


async def show(visit: Visit) -> Response:
    """Show one event, found by its id.

    Raises:
        EventNotFound: there is none.
    """
    id = visit.one("id")
    recorded = await visit.ask(history.find, event_id=id)
    chain = await visit.ask(history.get_chain, event_id=id)
    children = await visit.ask(history.get_children, event_id=id)
    deliveries = await visit.ask(history.get_deliveries, event_id=id)
    subscribers = await visit.ask(fleet.list_subscribers) if visit.may_act else {"subscribers": []}
    return render(
        visit,
        "event.html",
        event=event_object(recorded),
        chain=chain["events"],
        children=children["events"][:MOST_CHILDREN],
        more=max(0, len(children["events"]) - MOST_CHILDREN),
        deliveries=deliveries["deliveries"],
        subscribers=[one["subscriber"] for one in subscribers["subscribers"]],
    )


PAGE = Page(path="/event", call=show)
