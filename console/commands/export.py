"""`eventbus export`: history as JSON lines, typed columns, resumable."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from console.exits import Mistake, going_on
from console.options import Actor, Correlation, Json, Project, Types, event_filter
from console.printing import print_json
from console.progress import progress
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from store.filter import EventFilter
    from store.line_files import LineWriter


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="FILE.jsonl, or FILE.jsonl.gz for gzip.")],
    project: Project = None,
    types: Types = None,
    actor: Actor = None,
    correlation: Correlation = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="From this moment on: ISO 8601, UTC, or a span ago.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Before this moment; written like --since.")
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", min=0, metavar="POSITION", help="After this position, exclusive.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a FILE that is there, after its last whole event.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write history to a file, one event a line, oldest first.

    Every line has the same columns: position, event_id, project_id, type, actor, causation_id, correlation_id,
    depth, timestamp, payload, blackboard_pointer, metadata, cost_micros, currency, latency_us, origin,
    deliveries; payload, metadata and deliveries are JSON text. docs/retention.md has their types, and
    three lines that make Parquet of them. Values on the blackboard are not in it.

    An export that was stopped, or one that is to have what came since, is gone on with by --resume; give the
    same filters. `eventbus import` reads it.

    \b
    Examples:
      eventbus export history.jsonl.gz
      eventbus export history.jsonl.gz --resume
      eventbus export film.jsonl --project P-1 --since 30d
    """
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise Mistake(
            f"{str(file)!r} must end in .jsonl, or .jsonl.gz for gzip; `eventbus replay --json` writes to stdout."
        )
    wanted = event_filter(project, types, actor, correlation, since, until)
    if resume and after is not None:
        raise Mistake("--resume goes on after the file's last event, so --after cannot be given with it.")
    done = _export(file, wanted, after or 0, resume)
    if as_json:
        print_json({"file": str(file), **done._asdict()})
        return
    print(f"Wrote {plural(done.events, 'event')} to {file}; it reaches to position {done.last_position}.")
    if done.left_out:
        print(f"Left out {plural(done.left_out, 'event')} that no database can keep.", file=sys.stderr)


class _Exported(NamedTuple):
    """How many events were written, how many no database can keep, and how far in history that reaches."""

    events: int
    left_out: int
    last_position: int


def _export(file: Path, wanted: EventFilter, after: int, resume: bool) -> _Exported:
    from console.opening import reading
    from events.errors import Unavailable
    from store.line_files import LineWriter

    with reading(undone="nothing was exported") as backend, going_on("--resume goes on with it."):
        horizon = backend.blackboard.direct.horizon()  # asks both servers: without them no file is made
        try:
            with LineWriter(file, resume=resume) as writer:
                start = after if writer.last is None else _last_position(file, writer.last)
                return _write(backend, writer, wanted, start, horizon)
        except FileExistsError:
            raise Mistake(f"{file} is there already: give --resume to go on with it, or another name.") from None
        except Unavailable:  # an OSError too
            raise
        except OSError as error:
            raise Mistake(f"{file} cannot be written: {error.strerror or error}.") from None


def _write(backend: Backend, writer: LineWriter, wanted: EventFilter, after: int, horizon: int) -> _Exported:
    """Write what follows a position up to another."""
    from store.exporting import lines

    board, written, left_out = backend.blackboard, 0, 0
    total = board.replay.count(wanted, after) if sys.stderr.isatty() else None
    with progress("events exported", total) as step:
        for page, unkept in lines(board.replay, wanted, after, horizon):
            writer.write(page)
            step(len(page))
            written += len(page)
            left_out += unkept
    return _Exported(written, left_out, horizon)


def _last_position(file: Path, line: bytes) -> int:
    try:
        found = json.loads(line)["position"]
        if isinstance(found, int):
            return found
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Mistake(f"{file} is no export: its last line has no position. Give another name.")
