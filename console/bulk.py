"""Publishing a file of events, some hundreds at a time: the file may be longer than memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import typer

from console.exits import FAILED, MISTAKE, Mistake, code_of, complain
from console.printing import print_json
from console.wording import plural

if TYPE_CHECKING:
    from events.bus import EventBus
    from events.event import Event

BATCH = 500
# What `replay --json` adds to an event's own fields.
OF_ITS_PLACE = ("position", "depth", "deliveries", "origin")


@dataclass(slots=True)
class _Tally:
    as_json: bool
    published: int = 0
    known: int = 0
    refused: int = 0
    code: int = 0

    def refuse(self, line: int, error: Exception) -> None:
        """Name a line that was not published, and remember the graver exit code: a failure outweighs a mistake."""
        self.refused += 1
        code = code_of(error)
        self.code = FAILED if FAILED in (code, self.code) else MISTAKE
        if self.as_json:
            print_json({"line": line, "error": str(error)})
        else:
            complain(f"line {line}: {error}")


def publish_file(name: str, as_json: bool, durable: bool = False) -> None:
    """Publish the events of a file; print a count, and a sentence for each line that was refused.

    Args:
        durable: wait for the server's disk after each batch.

    Raises:
        Mistake: the file cannot be read.
        typer.Exit: with 2 when a line was refused, 1 when a server could not be reached.
    """
    from console.application import publishing_bus
    from events.errors import EventBusError

    tally = _Tally(as_json)
    with _lines(name) as stream:
        bus = publishing_bus()
        try:
            numbered = enumerate(stream, 1)
            while tally.code != FAILED and (batch := list(islice(numbered, BATCH))):
                _publish(bus, batch, tally, durable)
        except OSError as error:
            if isinstance(error, EventBusError | BrokenPipeError):
                raise
            raise Mistake(f"{name} cannot be read: {error.strerror or error}.") from None
        finally:
            bus.close()
    _conclude(tally)


def _publish(bus: EventBus, batch: list[tuple[int, bytes]], tally: _Tally, durable: bool) -> None:
    from events.errors import EventBusError
    from events.publisher import Receipt

    events: list[tuple[int, Event]] = []
    for line, text in batch:
        if text.strip():
            try:
                events.append((line, _event(text)))
            except (EventBusError, Mistake) as error:
                tally.refuse(line, error)
    answers = bus.publish_many_sync((event for _, event in events), durable=durable)
    for (line, _), answer in zip(events, answers, strict=True):
        if isinstance(answer, EventBusError):
            tally.refuse(line, answer)
            continue
        assert isinstance(answer, Receipt)  # nothing here is scheduled
        tally.published += answer.is_new
        tally.known += not answer.is_new
        if tally.as_json:
            receipt = {"event_id": answer.event_id, "position": answer.position, "is_new": answer.is_new}
            print_json({"line": line, **receipt})


def _event(text: bytes) -> Event:
    from events.event import Event

    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"It is not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise Mistake(f"It is a JSON {type(fields).__name__}, not an object with the fields of an event.")
    own = {key: value for key, value in fields.items() if key not in OF_ITS_PLACE}
    try:
        return Event(**own)
    except TypeError:
        raise Mistake("It has a field that no event has: 'self'.") from None


def _conclude(tally: _Tally) -> None:
    parts = [f"Published {plural(tally.published, 'event')}"]
    if tally.known:
        parts.append(f"{tally.known:,} {'was' if tally.known == 1 else 'were'} published before")
    if tally.refused:
        parts.append(f"{plural(tally.refused, 'line')} {'was' if tally.refused == 1 else 'were'} not published")
    # Under --json stdout holds the receipts alone.
    print("; ".join(parts) + ".", file=sys.stderr if tally.as_json else sys.stdout)
    if tally.code:
        raise typer.Exit(tally.code)


@contextmanager
def _lines(name: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Mistake(f"{name} cannot be read: {error.strerror}.") from None
    with stream:
        yield stream
