"""Dead letters on a screen and as JSON: one of many on a line, one alone with all that is known of it.

What handlers raise may hold anything, so text is shown without its control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from console import wording
from console.printing import Lines, event_object, plain

if TYPE_CHECKING:
    from rich.console import Console

    from console.dossier import Dossier
    from events.records import DeadLetter, Outcome

HEADINGS = ("GIVEN UP (UTC)", "LETTER", "TYPE", "PROJECT", "TRIES", "BLOCKS", "REASON")
DECIDED_HEADINGS = (*HEADINGS[:-2], "NOW", "REASON")
ATTEMPTS = ("DELIVERY", "TRY", "ENDED (UTC)", "WORKER", "TOOK", "STATE", "ERROR")


def is_holder(letter: DeadLetter, holder: str) -> bool:
    """Tell whether it is this letter that holds its ordered lane."""
    return holder == f"{letter.event_position}:{letter.redelivery}"


def open_lines(lines: Lines, letters: Iterable[tuple[DeadLetter, str]]) -> int:
    """Print open letters, each with the holder of its lane; return how many there were."""
    return lines.rows(
        (*_common(letter), plain(letter.lane) if is_holder(letter, holder) else "", plain(letter.reason))
        for letter, holder in letters
    )


def decided_lines(lines: Lines, letters: Iterable[tuple[DeadLetter, str]]) -> int:
    """Print letters that are open no more, each with what it is now; return how many there were."""
    return lines.rows((*_common(letter), now, plain(letter.reason)) for letter, now in letters)


def _common(letter: DeadLetter) -> tuple[str, ...]:
    event = letter.event
    return (
        wording.moment(wording.at(letter.position)),
        letter.name if letter.event_position else f"{letter.name} of {letter.subscriber}",
        event.type.value if event else "?",
        event.project_id if event else "?",
        str(letter.attempts),
    )


def letter_object(letter: DeadLetter, now: str, holder: str = "") -> dict[str, Any]:
    """Return a letter as JSON shows it: without payload, traceback and output."""
    event = letter.event
    return {
        "name": letter.name,
        "position": letter.position,
        "given_up_at": wording.at(letter.position),
        "subscriber": letter.subscriber,
        "event_position": letter.event_position,
        "redelivery": letter.redelivery,
        "event_id": event.event_id if event else None,
        "type": event.type.value if event else None,
        "project_id": event.project_id if event else None,
        "attempts": letter.attempts,
        "worker": letter.worker,
        "reason": letter.reason,
        "blocks": letter.lane if is_holder(letter, holder) else None,
        "resolution": now,
    }


def dossier_object(dossier: Dossier) -> dict[str, Any]:
    """Return all that is known of a letter as JSON shows it."""
    letter = dossier.letter
    return letter_object(letter, dossier.now, dossier.holder) | {
        "traceback": letter.traceback,
        "output": letter.output,
        "raw": letter.raw,
        "payload": letter.event.payload if letter.event else None,
        "outcomes": [outcome_object(outcome) for outcome in dossier.outcomes],
        "decision": outcome_object(dossier.decision) if dossier.decision else None,
        "chain": [event_object(recorded) for recorded in dossier.chain],
    }


def print_dossier(out: Console, dossier: Dossier) -> None:
    """Print all that is known of a letter."""
    from console.causation import print_chain

    letter = dossier.letter
    out.print(f"Dead letter {letter.name}", style="bold", soft_wrap=True)
    for word, text in _facts(dossier):
        out.print(f"  {word:<11} {text}", soft_wrap=True)
    payload = json.dumps(letter.event.payload, indent=2, ensure_ascii=False) if letter.event else ""
    _section(out, "Payload", payload)
    _section(out, "What was queued, and cannot be read", letter.raw)
    _section(out, "Traceback", letter.traceback)
    _section(out, "Output that could not be published", letter.output)
    if dossier.outcomes:
        out.print("\nAttempts and decisions", style="bold")
        Lines(ATTEMPTS, ("TRY", "TOOK")).rows(map(attempt_row, dossier.outcomes))
    if dossier.chain:
        out.print("\nCauses, oldest first", style="bold")
        print_chain(out, dossier.chain)
    out.print(f"\n{_advice(dossier)}", soft_wrap=True)


def describe(letter: DeadLetter) -> str:
    """Return a letter's name with what it was about."""
    about = f"{letter.event.type.value} of {letter.event.project_id}" if letter.event else "it cannot be read"
    return f"{letter.name} ({plain(about)})"


def _facts(dossier: Dossier) -> list[tuple[str, str]]:
    letter, event = dossier.letter, dossier.letter.event
    tries = wording.plural(letter.attempts, "attempt")
    facts = [("subscriber", letter.subscriber)]
    if event:
        about = f"{event.event_id}, {event.type.value} of {event.project_id}, by {event.actor}"
        facts.append(("event", plain(about)))
    facts.append(
        ("given up", f"{wording.moment(wording.at(letter.position))} UTC, after {tries}, by {plain(letter.worker)}")
    )
    facts.append(("reason", plain(letter.reason)))
    if is_holder(letter, dossier.holder):
        facts.append(("blocks", f"{plain(letter.lane)}: what waits for this key goes on when it is decided"))
    facts.append(("now", _now(dossier)))
    return facts


def _now(dossier: Dossier) -> str:
    decision = dossier.decision
    if decision is None:
        lost = "lost: Redis has it no more, and nobody decided about it"
        return lost if dossier.now == "lost" else dossier.now
    becomes = ""
    if dossier.now == "retried":
        becomes = f" as {decision.event_position}:{decision.subscriber}:{decision.redelivery}"
    why = f": {plain(decision.error)}" if decision.error else ""
    when = wording.moment(wording.at(decision.position))
    by = f" by {plain(decision.worker)}" if decision.worker else ""
    return f"{dossier.now}{becomes} at {when} UTC{by}{why}"


def _section(out: Console, heading: str, text: str) -> None:
    if text:
        out.print(f"\n{heading}", style="bold")
        for line in text.rstrip("\n").split("\n"):
            out.print(f"  {plain(line, keeps=chr(9))}", soft_wrap=True)


def attempt_row(outcome: Outcome) -> Sequence[str]:
    """Return an outcome as a row under `ATTEMPTS`."""
    return (
        f"{outcome.event_position}:{outcome.subscriber}:{outcome.redelivery}",
        str(outcome.attempt) if outcome.attempt else "",
        wording.moment(wording.at(outcome.position)),
        plain(outcome.worker),
        wording.duration(outcome.elapsed_us / 1000) if outcome.elapsed_us else "",
        outcome.state.value,
        plain(outcome.error),
    )


def outcome_object(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON shows it."""
    return {
        "position": outcome.position,
        "ended_at": wording.at(outcome.position),
        "redelivery": outcome.redelivery,
        "attempt": outcome.attempt,
        "state": outcome.state.value,
        "worker": outcome.worker,
        "elapsed_us": outcome.elapsed_us,
        "error": outcome.error,
    }


def _advice(dossier: Dossier) -> str:
    name = dossier.letter.name
    if dossier.now == "lost":
        return f"Purge it with `eventbus dead purge {name}`; publish a new event if its work is still wanted."
    if dossier.now != "open":
        return "Nothing is left to do."
    discard = f"eventbus dead discard {name}"
    if not dossier.letter.event_position:
        return f"It never was a delivery, so it cannot be delivered again. Give it up:\n  {discard}"
    return f"Deliver it again, or give it up:\n  eventbus dead retry {name}\n  {discard}"
