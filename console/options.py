"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.exits import Mistake

if TYPE_CHECKING:
    from store.filter import EventFilter

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\Z")
_PATH_AND_VALUE = re.compile(r"((?:[^\\=]|\\.)*)=(.*)\Z", re.DOTALL)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

MOST = 10**9


def no_more(count: int | None) -> int | None:
    """Read a `-n` beyond what any listing has as what every counter can hold: it is no limit."""
    return None if count is None else min(count, MOST)


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
JsonArray = Annotated[bool, typer.Option("--json", help="Print one JSON array instead of text.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of text.")]


def named(project: str | None) -> str | None:
    """Let a project's name through; an empty one is most often an empty variable.

    Raises:
        Mistake: it is empty.
    """
    if project == "":
        raise Mistake("--project is empty.")
    return project


Project = Annotated[
    str | None, typer.Option("--project", "-p", callback=named, metavar="ID", help="Only of this project.")
]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", "-t", metavar="TYPE", help="Only of this type; repeat the option for several."),
]
Actor = Annotated[str | None, typer.Option("--actor", "-a", metavar="NAME", help="Only by this actor.")]
Correlation = Annotated[
    str | None, typer.Option("--correlation", metavar="EVENT_ID", help="Only what this root event set off.")
]
Payload = Annotated[
    list[str] | None,
    typer.Option(
        "--payload",
        metavar="PATH=JSON",
        help="Only with this at a path of the payload, e.g. scene.number=3 or title='\"Rain\"'; repeatable.",
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="PATH=JSON", help="The same of the metadata, e.g. priority=5."),
]
App = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:ATTR", help="The bus to run, e.g. pipeline:bus; else EVENTBUS_APP."),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", min=1, metavar="N", help="Worker processes.", show_default="EVENTBUS_PROCESSES, else 2"
    ),
]
MaxEvents = Annotated[
    int | None,
    typer.Option(
        "--max-events-per-process",
        min=0,
        metavar="N",
        help="Replace a process that has handled N events.",
        show_default="EVENTBUS_MAX_EVENTS_PER_PROCESS, else never",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        metavar="N",
        help="Plain handlers at once, per process.",
        show_default="EVENTBUS_THREADS, else 8",
    ),
]
Subscribers = Annotated[
    str | None,
    typer.Option("--subscribers", metavar="A,B", help="Run only these subscribers.", show_default="all"),
]
Grace = Annotated[
    float | None,
    typer.Option(
        "--grace",
        min=0,
        metavar="S",
        help="Seconds for running handlers at the end.",
        show_default="EVENTBUS_GRACE_S, else 25",
    ),
]
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LogLevel = Annotated[
    str,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning, error or critical.",
        autocompletion=lambda: list(LOG_LEVELS),
    ),
]


def log_level(name: str) -> str:
    """Return the level in lower case.

    Raises:
        Mistake: there is no such level.
    """
    if name.lower() not in LOG_LEVELS:
        raise Mistake(f"--log-level must be one of {', '.join(LOG_LEVELS)}, not {name!r}.")
    return name.lower()


def span(option: str, text: str | None) -> timedelta | None:
    """Read a span such as `90s`, `15m`, `24h`, `7d`.

    Raises:
        Mistake: naming the option and its value.
    """
    if text is None:
        return None
    found = _SPAN.match(text.strip().lower())
    try:
        if found:
            return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        pass
    raise Mistake(f"{option} must be a span like 90s, 15m, 24h, 7d, not {text!r}.")


def moment(option: str, text: str | None, *, spans: bool = True) -> datetime | None:
    """Read a moment: ISO 8601 (UTC unless it says otherwise), or a span before now such as `15m`.

    Args:
        spans: whether a span may be given.

    Raises:
        Mistake: naming the option and its value.
    """
    if text is None:
        return None
    ago = _SPAN.match(text.strip().lower()) if spans else None
    try:
        if ago:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        or_span = ", or a span before now like 90s, 15m, 24h, 7d" if spans else ""
        raise Mistake(f"{option} must be a moment like 2026-01-31T12:00:00Z{or_span}, not {text!r}.") from None


def event_filter(
    project: str | None,
    types: list[str] | None,
    actor: str | None,
    correlation: str | None = None,
    since: str | None = None,
    until: str | None = None,
    payload: list[str] | None = None,
    metadata: list[str] | None = None,
    *,
    written: str = "--{}",
) -> EventFilter:
    """Return what the options ask for.

    Args:
        written: how an option is written, with its name for `{}`: for the sentences that name one.

    Raises:
        Mistake: a value cannot be read, or can match nothing.
    """
    from events.types import is_well_formed
    from store.filter import EventFilter

    option = written.format
    for name in types or ():
        if not is_well_formed(name):
            raise Mistake(f"{option('type')} must be a letter, then letters, digits or _ . : -, not {name!r:.120}.")
    start, end = moment(option("since"), since), moment(option("until"), until)
    if start and end and start > end:
        raise Mistake(f"{option('since')} ({start.isoformat()}) is after {option('until')} ({end.isoformat()}).")
    return EventFilter(
        project_id=project,
        types=tuple(types or ()),
        actor=actor,
        correlation_id=correlation,
        start_time=start,
        end_time=end,
        payload=_places(option("payload"), payload),
        metadata=_places(option("metadata"), metadata),
    )


def _places(option: str, given: list[str] | None) -> dict[str, Any]:
    """Read PATH=JSON: the path ends at the first `=` that no backslash takes.

    Raises:
        Mistake: naming the option and its value.
    """
    found: dict[str, Any] = {}
    for text in given or ():
        parts = _PATH_AND_VALUE.match(text)
        try:
            value = json.loads(parts[2]) if parts else None
        except (ValueError, RecursionError):
            parts = None
        if parts is None:
            raise Mistake(
                f"{option} must be PATH=JSON, like scene.number=3, done=true or title='\"Rain\"', not {text!r:.200}."
            )
        if parts[1] in found:
            raise Mistake(f"{option} is given twice for the path {parts[1]!r:.200}: one value can be there.")
        found[parts[1]] = value
    return found
