"""One event on a screen and as JSON: its payload, why it happened, what it caused, and who got it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from console import wording
from console.printing import event_object, plain

if TYPE_CHECKING:
    from rich.console import Console

    from events.backend import Backend
    from events.records import RecordedEvent
    from store.tree import MissingLink

MOST_EFFECTS = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to tell of an event.

    Attributes:
        recorded: it, at its position. causes: from its root to what caused it; empty for a root.
        missing: where they end too early, or None. effects: what it caused directly, in history order.
        deliveries: as `deliveries` prints them, each with its attempts.
    """

    recorded: RecordedEvent
    causes: Sequence[RecordedEvent]
    missing: MissingLink | None
    effects: Sequence[RecordedEvent]
    deliveries: Sequence[dict[str, Any]]


def shown(backend: Backend, text: str) -> Shown:
    """Return what there is to tell of the event that the text names, by id or position.

    Raises:
        Mistake: there is no such event.
    """
    from console.deliveries import deliveries_object, found
    from store.causation import missing_link

    recorded = found(backend, text)
    causation, event_id = backend.blackboard.causation, recorded.event.event_id
    chain = causation.chain(event_id)
    return Shown(
        recorded, chain[:-1], missing_link(chain), causation.children(event_id), deliveries_object(backend, recorded)
    )


def shown_object(one: Shown) -> dict[str, Any]:
    """Return it as JSON shows it: the event's own fields, and those of its neighbours without their payloads."""
    return event_object(one.recorded) | {
        "causes": list(map(_neighbour, one.causes)),
        "missing": one.missing,
        "effects": list(map(_neighbour, one.effects)),
        "deliveries": list(one.deliveries),
    }


def print_shown(out: Console, one: Shown) -> None:
    """Print it; of many effects the first ones, and how many more there are."""
    from console.causation import print_chain
    from console.printing import EventLines, Lines
    from console.tree import missing_sentence

    event = one.recorded.event
    out.print(f"{plain(event.event_id)}, {event.type.value} of {plain(event.project_id)}", style="bold", soft_wrap=True)
    for word, text in _facts(one.recorded):
        out.print(f"  {word:<11} {text}", soft_wrap=True)
    _section(out, "Payload", event.payload)
    _section(out, "Metadata", event.metadata)
    out.print("\nCauses, oldest first", style="bold")
    if one.causes:
        print_chain(out, one.causes)
    if one.missing:
        out.print(missing_sentence(one.missing), soft_wrap=True)
    elif not one.causes:
        out.print("None: it is a root.")
    out.print("\nEffects", style="bold")
    if not EventLines().print(one.effects[:MOST_EFFECTS]):
        out.print("It caused nothing.")
    if len(one.effects) > MOST_EFFECTS:
        more = len(one.effects) - MOST_EFFECTS
        out.print(f"And {more:,} more: `eventbus tree {plain(event.event_id)}` shows all.", soft_wrap=True)
    out.print("\nDeliveries", style="bold")
    if not Lines(("SUBSCRIBER", "STATE", "TRIES", "REASON"), ("TRIES",), cuts=True).rows(map(_row, one.deliveries)):
        out.print("It was delivered to nobody.")


def _facts(recorded: RecordedEvent) -> list[tuple[str, str]]:
    event = recorded.event
    facts = [
        ("actor", plain(event.actor)),
        ("time", f"{wording.moment(event.timestamp)} UTC"),
        ("position", str(recorded.position)),
        ("correlation", plain(event.correlation_id or event.event_id)),
    ]
    if event.cost is not None:
        facts.append(("cost", plain(wording.money(event.cost, event.metadata.get("currency")))))
    if event.latency_ms is not None:
        facts.append(("latency", wording.duration(event.latency_ms)))
    if event.blackboard_pointer is not None:
        facts.append(("pointer", plain(event.blackboard_pointer)))
    return facts


def _section(out: Console, heading: str, value: dict[str, Any]) -> None:
    if value:
        out.print(f"\n{heading}", style="bold")
        for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"):
            out.print(f"  {plain(line)}", soft_wrap=True)


def _neighbour(recorded: RecordedEvent) -> dict[str, Any]:
    found = event_object(recorded)
    return {name: found[name] for name in ("position", "event_id", "type", "actor", "project_id", "timestamp")}


def _row(one: dict[str, Any]) -> Sequence[str]:
    said = [each["error"] for each in one["outcomes"] if each["error"]]
    name = one["subscriber"] + (f" (again, {one['redelivery']})" if one["redelivery"] else "")
    return name, one["state"], str(one["attempts"]), plain(said[-1] if said else "")
