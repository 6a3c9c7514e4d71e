"""Deliveries over HTTP."""

from __future__ import annotations

from typing import Any

from console.deliveries import delivery_object, named
from console.web.api import questions
from console.web.operations import Answer, Asked, Operation
from console.web.shapes import DeliveryPage
from store.deliveries import DeliveryFilter


async def list_deliveries(asked: Asked) -> dict[str, Any]:
    """Return a page of deliveries."""
    query, stored = asked.query, asked.house.backend.blackboard.deliveries
    wanted = DeliveryFilter(subscriber=query.subscriber, state=query.state, project_id=query.project)
    after = named("after", query.after)
    found = await asked.read(lambda: stored.page(wanted, after, query.limit))
    more = found[-1].name if len(found) == query.limit else None
    return {"deliveries": list(map(delivery_object, found)), "next": more}


OPERATIONS = (
    Operation(
        method="GET",
        path="/deliveries",
        name="list_deliveries",
        tag="Deliveries",
        summary="Every (event, subscriber) with its state and its attempts, as far as archived.",
        call=list_deliveries,
        query=questions.Deliveries,
        answers={200: Answer("A page, in the order of the events.", DeliveryPage)},
    ),
)
