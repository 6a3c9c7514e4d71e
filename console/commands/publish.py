"""`eventbus publish`: one event from the command line, or many from a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import wording
from console.exits import Mistake
from console.options import JsonLines, moment, span
from console.printing import print_json

if TYPE_CHECKING:
    from events.due import Scheduled
    from events.event import Event
    from events.publisher import Receipt


def command(
    kind: Annotated[str | None, typer.Argument(metavar="TYPE", help="For example PROJECT_CREATED.")] = None,
    project: Annotated[str | None, typer.Option("--project", "-p", metavar="ID", help="The project.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", "-a", metavar="NAME", help="Who did it.")] = None,
    payload: Annotated[
        str | None,
        typer.Option("--payload", metavar="JSON|@FILE|-", help="A JSON object, or where to read it."),
    ] = None,
    cause: Annotated[
        str | None, typer.Option("--cause", metavar="EVENT_ID", help="The event that directly caused this one.")
    ] = None,
    cost: Annotated[float | None, typer.Option("--cost", metavar="N", help="What it cost, in US dollars.")] = None,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", metavar="MS", help="How long it took, in milliseconds.")
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option("--id", metavar="EVENT_ID", help="An id of your own: repeating the command is harmless."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="SPAN", help="Publish it later: after 90s, 15m, 24h, 7d.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="WHEN", help="Publish it at this moment: ISO 8601, UTC.")
    ] = None,
    durable: Annotated[
        bool, typer.Option("--durable", help="Return when it is on the disk of Redis too; needs its append-only file.")
    ] = False,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE|-", help="Publish many: one event a line, as JSON; - is stdin."),
    ] = None,
    as_json: JsonLines = False,
) -> None:
    """Publish an event, or a file of events.

    Prints the event's id. When it returns, the event is in history and in the queue of every subscriber
    of its type. With --delay or --at it is scheduled: workers and archivers publish it when it is due, and
    `eventbus scheduled` lists and cancels it until then.

    A file holds one JSON object a line with the fields of an event (project_id, type, actor, and if
    wanted event_id, causation_id, correlation_id, timestamp, payload, blackboard_pointer, metadata).
    What `eventbus replay --json` prints is such a file. A refused line is named and the others are
    published; then the exit code is 2. Publishing a file twice is harmless if its lines have an
    event_id.

    Where EVENTBUS_APP names an application, payloads are held against its models, and refused by field; it
    is loaded in this process for that, and nothing of it runs.

    \b
    Examples:
      eventbus publish PROJECT_CREATED --project P-1 --actor me --payload '{"title": "The Fox"}'
      eventbus publish IMAGE_GENERATED -p P-1 -a ImageGen --cause EV-... --cost 0.04 --latency-ms 812
      eventbus publish USER_APPROVAL_REQUIRED -p P-1 -a me --delay 24h
      eventbus publish --file events.jsonl
    """
    single = {"TYPE": kind, "--project": project, "--actor": actor, "--payload": payload, "--cause": cause,
              "--cost": cost, "--latency-ms": latency_ms, "--id": event_id, "--delay": delay, "--at": at}  # fmt: skip
    if file is not None:
        given = [name for name, value in single.items() if value is not None]
        if given:
            raise Mistake(f"--file brings whole events, so {' and '.join(given)} cannot be given with it.")
        from console.bulk import publish_file

        publish_file(file, as_json, durable)
        return
    event = _event(single)
    _tell(_published(event, span("--delay", delay), moment("--at", at, spans=False), durable), as_json)


def _event(given: Mapping[str, Any]) -> Event:
    """Make the event of which the options tell.

    Raises:
        Mistake: one is missing, or cannot be read.
        InvalidEvent: naming what is wrong.
    """
    from events.event import Event

    for name in ("TYPE", "--project", "--actor"):
        if not given[name]:
            fault = "missing" if given[name] is None else "empty"
            raise Mistake(
                f"{name} is {fault}: write `eventbus publish TYPE --project ID --actor NAME`, or `--file FILE`."
            )
    measured = {"cost": given["--cost"], "latency_ms": given["--latency-ms"]}
    own_id = {} if given["--id"] is None else {"event_id": given["--id"]}
    return Event(
        type=given["TYPE"],
        project_id=given["--project"],
        actor=given["--actor"],
        causation_id=given["--cause"],
        payload=_payload(given["--payload"]),
        metadata={name: value for name, value in measured.items() if value is not None},
        **own_id,
    )


def _published(event: Event, delay: timedelta | None, at: datetime | None, durable: bool) -> Receipt | Scheduled:
    from console.application import publishing_bus
    from events.errors import EventBusError

    bus = publishing_bus()
    try:
        answer = bus.publish_many_sync([event], delay=delay, at=at, durable=durable)[0]
    finally:
        bus.close()
    if isinstance(answer, EventBusError):
        raise answer
    return answer


def _tell(answer: Receipt | Scheduled, as_json: bool) -> None:
    from events.due import Scheduled

    if isinstance(answer, Scheduled):
        if as_json:
            print_json({"event_id": answer.event_id, "due": answer.due, "is_new": answer.is_new})
        else:
            print(answer.event_id)
            print(f"It is scheduled for {wording.moment(answer.due)} (UTC).", file=sys.stderr)
    elif as_json:
        print_json({"event_id": answer.event_id, "position": answer.position, "is_new": answer.is_new})
    else:
        print(answer.event_id)
        if not answer.is_new:
            print("It was published before; nothing was delivered again.", file=sys.stderr)


def _payload(text: str | None) -> Any:
    """Read the payload from where the option says.

    Raises:
        Mistake: it cannot be read, or is not a JSON object.
    """
    if text is None:
        return {}
    where = "--payload from stdin" if text == "-" else f"--payload {text}" if text.startswith("@") else "--payload"
    try:
        if text == "-":
            text = sys.stdin.buffer.read().decode()
        elif text.startswith("@"):
            text = Path(text[1:]).read_bytes().decode()
        found = json.loads(text)
    except OSError as error:
        raise Mistake(f"{where} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise Mistake(f"{where} is not UTF-8 (byte {error.start}).") from None
    except (ValueError, RecursionError) as error:
        raise Mistake(f"{where} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise Mistake(f'{where} must be a JSON object, like {{"title": "The Fox"}}, not a {type(found).__name__}.')
    return found
