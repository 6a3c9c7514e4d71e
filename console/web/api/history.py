"""Asking history over HTTP: events, one event, why it happened, and everything it set off."""

from __future__ import annotations

from itertools import islice
from typing import Any

from starlette.responses import Response

from console.causation import chain_object
from console.deliveries import deliveries_object
from console.exits import Mistake
from console.latest import latest
from console.printing import event_object
from console.tree import Shown, tree_objects
from console.web.api import questions
from console.web.operations import JSON, Answer, Asked, Operation, json_response
from console.web.shapes import CloudEvent, DeliveryPage, EventList, EventPage, EventShape, Tree
from events import cloudevents
from events.errors import EventNotFound
from events.records import RecordedEvent


async def list_events(asked: Asked) -> dict[str, Any]:
    """Return a page of events."""
    query: questions.Page = asked.query
    wanted, replay = query.wanted(), asked.house.backend.replay
    if query.newest:
        if query.after:
            raise Mistake("`newest` and `after` do not go together: `newest` begins at the end.")
        end = await asked.read(asked.house.backend.history.clock)
        found, is_all = await asked.read(lambda: latest(replay, wanted, query.limit, end, query.before))
        last = max(end, found[-1].position if found else 0) if query.before is None else query.before - 1
        return _page(found, last, query.before is None, earlier=not is_all)
    if query.before is not None:
        raise Mistake("`before` goes with `newest`: add it.")
    page = await asked.read(lambda: replay.page(wanted, query.after, query.limit))
    return _page(page.events, page.last, page.complete)


async def get_event(asked: Asked) -> Response:
    """Return one event, as a CloudEvent to who prefers that."""
    recorded = await find(asked)
    if cloudevents.STRUCTURED in asked.request.headers.get("accept", ""):
        return json_response(cloudevents.to_structured(recorded.event), media=cloudevents.STRUCTURED)
    return json_response(event_object(recorded))


async def get_chain(asked: Asked) -> dict[str, Any]:
    """Return why an event happened."""
    event_id = asked.path["event_id"]
    return chain_object(await asked.read(lambda: asked.house.backend.blackboard.causation.chain(event_id)))


async def get_children(asked: Asked) -> dict[str, Any]:
    """Return what an event caused directly."""
    event_id = asked.path["event_id"]
    found = await asked.read(lambda: asked.house.backend.blackboard.causation.children(event_id))
    return {"events": list(map(event_object, found))}


async def get_tree(asked: Asked) -> dict[str, Any]:
    """Return everything that an event set off."""
    event_id, query = asked.path["event_id"], asked.query

    def read() -> dict[str, Any]:
        tree = asked.house.backend.blackboard.causation.tree(event_id)
        nodes = islice(tree_objects(tree, Shown(depth=query.depth)), query.limit)
        return {"root": event_id, "count": tree.count, "nodes": list(map(_bare, nodes)), "missing": tree.missing}

    return await asked.read(read)


async def get_deliveries(asked: Asked) -> dict[str, Any]:
    """Return the deliveries of one event, each with its attempts."""
    recorded = await find(asked)
    return {"deliveries": await asked.read(lambda: deliveries_object(asked.house.backend, recorded)), "next": None}


async def find(asked: Asked) -> RecordedEvent:
    """Return the event that the path names.

    Raises:
        EventNotFound: there is none.
    """
    event_id = asked.path["event_id"]
    recorded = await asked.read(lambda: asked.house.backend.replay.find(event_id))
    if recorded is None:
        raise EventNotFound(
            f"There is no event {event_id!r:.200} in history or store: check the id, and the namespace."
        )
    return recorded


def _page(events: Any, last: int, complete: bool, *, earlier: bool = False) -> dict[str, Any]:
    return {"events": list(map(event_object, events)), "last": last, "complete": complete, "earlier": earlier}


def _bare(node: dict[str, Any]) -> dict[str, Any]:
    node.pop("missing", None)
    return node


OPERATIONS = (
    Operation(
        method="GET",
        path="/events",
        name="list_events",
        tag="History",
        summary="Read history: events in their one order, with filters.",
        about="Archived or not: what was published before the request is in the answer. Pages that follow each other "
        "by `after` have no gap and no repeat. A page of large events is short: about 8 MB.",
        call=list_events,
        query=questions.Page,
        answers={200: Answer("A page.", EventPage)},
    ),
    Operation(
        method="GET",
        path="/events/{event_id}",
        name="get_event",
        tag="History",
        summary="Read one event.",
        about=f"`Accept: {cloudevents.STRUCTURED}` asks for it as a CloudEvent.",
        call=get_event,
        answers={200: Answer("The event.", {JSON: EventShape, cloudevents.STRUCTURED: CloudEvent})},
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/events/{event_id}/chain",
        name="get_causation_chain",
        tag="Causation",
        summary="Why an event happened: its causes, oldest first, and itself.",
        call=get_chain,
        answers={200: Answer("The chain.", EventList)},
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/events/{event_id}/children",
        name="get_causation_children",
        tag="Causation",
        summary="What an event caused directly.",
        call=get_children,
        answers={200: Answer("The events, in history order.", EventList)},
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/events/{event_id}/tree",
        name="get_causation_tree",
        tag="Causation",
        summary="Everything that an event set off, with what it cost and how long it took.",
        call=get_tree,
        query=questions.Tree,
        answers={200: Answer("The tree, a parent before its children.", Tree)},
        refusals=(404,),
    ),
    Operation(
        method="GET",
        path="/events/{event_id}/deliveries",
        name="get_event_deliveries",
        tag="Deliveries",
        summary="To whom an event was delivered, and how each attempt ended.",
        call=get_deliveries,
        answers={200: Answer("Its deliveries.", DeliveryPage)},
        refusals=(404,),
    ),
)
