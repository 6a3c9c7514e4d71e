"""Subscribers and workers over HTTP: how they stand, and steering them while they run."""

from __future__ import annotations

from functools import partial
from typing import Any

from console.roster import lag_object, worker_object
from console.standing import as_object
from console.web.access import Role
from console.web.fleet_shapes import (
    LagShape,
    Limits,
    Redeliver,
    Redelivered,
    Steering,
    SubscriberList,
    SubscriberShape,
    WorkerList,
)
from console.web.operations import JSON, Answer, Asked, Operation, checked
from console.wording import plural
from events.backend import Backend
from events.errors import EventNotFound
from events.inspection import Inspection
from events.standing import standings
from events.steering import until_heeded
from workers.operating import steer_durably

HEED_S = 3.0


async def list_subscribers(asked: Asked) -> dict[str, Any]:
    """Return how all subscribers stand."""
    found = await asked.read(lambda: standings(asked.house.backend.namespace))
    return {"subscribers": list(map(as_object, found))}


async def get_subscriber(asked: Asked) -> dict[str, Any]:
    """Return how one subscriber stands."""
    return await asked.read(lambda: _standing(asked.house.backend, asked.path["name"]))


async def get_lag(asked: Asked) -> dict[str, Any]:
    """Return what waits for each subscriber."""
    found = await asked.read(lambda: Inspection(asked.house.backend.namespace).lags())
    return {lag.queue.subscriber: lag_object(lag) for lag in found}


async def list_workers(asked: Asked) -> dict[str, Any]:
    """Return the worker processes."""
    found = await asked.read(lambda: Inspection(asked.house.backend.namespace).workers())
    return {"workers": list(map(worker_object, found))}


async def set_paused(paused: bool, asked: Asked) -> dict[str, Any]:
    """Pause a subscriber and wait until its workers heed it, or let it go on."""
    return await asked.read(lambda: _steered(asked.house.backend, asked.path["name"], {"paused": paused}))


async def set_limits(asked: Asked) -> dict[str, Any]:
    """Set limits of a subscriber."""
    limits: Limits = checked(Limits, await asked.json(), "field")
    names = {"concurrency": "concurrency", "rate": "rate_limit"}
    changes = {names[name]: getattr(limits, name) for name in limits.model_fields_set}
    return await asked.read(lambda: _steered(asked.house.backend, asked.path["name"], changes))


async def redeliver(asked: Asked) -> dict[str, Any]:
    """Deliver one event again to one subscriber."""
    order: Redeliver = checked(Redeliver, await asked.json(), "field")
    return {"made": await asked.read(lambda: _redelivered(asked, order))}


def _redelivered(asked: Asked, order: Redeliver) -> int:
    from workers.redelivery import Redelivery

    backend = asked.house.backend
    recorded = backend.replay.find(order.event_id)
    if recorded is None:
        raise EventNotFound(f"There is no event {order.event_id!r:.200} in history or store.")
    driver = Redelivery(
        backend.namespace, backend.registry, backend.replay, asked.path["name"], who=asked.who.name, why=order.reason
    )
    return driver.once(recorded)


def _steered(backend: Backend, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    done = steer_durably(backend.namespace, backend.registry, name, **changes) if changes else None
    warnings = []
    silent = until_heeded(backend.namespace, name, HEED_S) if changes.get("paused") else ()
    if silent:
        warnings.append(
            f"{plural(len(silent), 'worker')} that may hold some of it has not said that it heeds this: "
            f"{', '.join(silent)}. What it holds it may still start, until its lease ends."
        )
    if done and done.trouble:
        warnings.append(f"{done.trouble} It holds, but a Redis that lost its data would forget it: repeat it later.")
    return {
        "subscriber": _standing(backend, name), "taken_back": done.taken_back if done else 0,
        "unheeded": silent, "trouble": (done and done.trouble) or None, "warnings": warnings,
    }  # fmt: skip


def _standing(backend: Backend, name: str) -> dict[str, Any]:
    return as_object(standings(backend.namespace, [name])[0])


def _steering(verb: str, paused: bool, summary: str) -> Operation:
    return Operation(
        method="POST",
        path=f"/subscribers/{{name}}/{verb}",
        name=f"{verb}_subscriber",
        tag="Subscribers",
        summary=summary,
        call=partial(set_paused, paused),
        answers={200: Answer("It holds, over restarts and over the loss of Redis's data.", Steering)},
        refusals=(404,),
        needs=Role.OPERATOR,
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/subscribers",
        name="list_subscribers",
        tag="Subscribers",
        summary="Who is subscribed to what, and what each has before it.",
        call=list_subscribers,
        answers={200: Answer("Subscribers by name.", SubscriberList)},
    ),
    Operation(
        method="GET",
        path="/subscribers/{name}",
        name="get_subscriber",
        tag="Subscribers",
        summary="How one subscriber stands.",
        call=get_subscriber,
        answers={200: Answer("The subscriber.", SubscriberShape)},
        refusals=(404,),
    ),
    _steering("pause", True, "Let nothing more begin; what runs, runs on."),
    _steering("resume", False, "Let a paused subscriber go on."),
    Operation(
        method="PATCH",
        path="/subscribers/{name}/limits",
        name="set_subscriber_limits",
        tag="Subscribers",
        summary="Set limits that go before those in code, without a restart.",
        call=set_limits,
        body={JSON: Limits},
        answers={200: Answer("They hold.", Steering)},
        refusals=(404,),
        needs=Role.OPERATOR,
    ),
    Operation(
        method="POST",
        path="/subscribers/{name}/redeliver",
        name="redeliver_event",
        tag="Subscribers",
        summary="Deliver one event again to one subscriber, as a new delivery.",
        call=redeliver,
        body={JSON: Redeliver},
        answers={200: Answer("How many deliveries were made.", Redelivered)},
        refusals=(404, 409),
        needs=Role.OPERATOR,
    ),
    Operation(
        method="GET",
        path="/lag",
        name="get_lag",
        tag="Subscribers",
        summary="What waits for each subscriber, and how much its workers can take: for autoscalers.",
        call=get_lag,
        answers={200: Answer("By subscriber.", dict[str, LagShape])},
    ),
    Operation(
        method="GET",
        path="/workers",
        name="list_workers",
        tag="Workers",
        summary="Worker processes: alive, busy with what, since when.",
        call=list_workers,
        answers={200: Answer("Workers, the longest silent last.", WorkerList)},
    ),
)
