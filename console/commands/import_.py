"""`eventbus import`: events that were elsewhere, from a file or another table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import FAILED, Mistake, going_on
from console.options import Json
from console.printing import print_json
from console.progress import phases
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from store.importing import Imported, Refused, SourceRow


def command(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="What `eventbus export` or `replay --json` wrote.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="NAME", help="A table of an older event store, instead of a file.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="Where that table is.", show_default="DATABASE_URL")
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option("--rejected", metavar="FILE", help="Where bad rows go.", show_default="FILE.rejected.jsonl"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store events that were elsewhere; nobody receives them.

    A file is read in its order. Of a table the columns event_id, project_id, event_type, actor, causation_id,
    timestamp, payload, blackboard_pointer and metadata are read, in the order of timestamp, then id. Every event
    gets a new position and the origin `import`; causes are followed, whether they come earlier or later.

    What is stored already is left as it is: an import that was stopped is gone on with by the same command.
    Rows that cannot be imported are written to a file, each with its number and the reason; then the exit
    code is 1. What is read waits on disk in TMPDIR until it is stored.

    \b
    Examples:
      eventbus import history.jsonl.gz
      eventbus import --table events_old
      eventbus import --table events --database postgresql://me@old-host/films
    """
    from console.opening import opened
    from events.settings import Settings

    if (file is None) == (table is None):
        raise Mistake("Say what to import: `eventbus import FILE`, or `eventbus import --table NAME`.")
    if database is not None and table is None:
        raise Mistake("--database says where --table is; a file needs none.")
    aside = rejected or Path(f"{file or str(table).replace('/', '_')}.rejected.jsonl")
    with opened(Settings.from_env()) as backend, going_on("the same command goes on with it."):
        rows, total = _from_table(backend, str(table), database) if file is None else _from_file(file)
        with _set_aside(aside) as refuse, phases(("rows read", "rows stored, or there already"), total) as steps:
            done = backend.blackboard.importer.run(rows, refuse, *steps)
    _tell(done, aside, as_json)
    if done.refused:
        raise typer.Exit(FAILED)


def _tell(done: Imported, aside: Path, as_json: bool) -> None:
    if as_json:
        told = {"stored": done.stored, "known": done.known, "rejected": done.refused}
        print_json(told | {"rejected_file": str(aside) if done.refused else None})
    else:
        known = f"; {plural(done.known, 'event was', 'events were')} there already" if done.known else ""
        print(f"Stored {plural(done.stored, 'event')}{known}.")
    if done.refused:
        print(f"{plural(done.refused, 'row')} could not be imported: see {aside}.", file=sys.stderr)


def _from_file(file: Path) -> tuple[Iterator[SourceRow], int | None]:
    """Return a file's rows, and their number where a bar shows it."""
    from store.sources import count_lines, from_file

    _require_file(file)
    return from_file(file), count_lines(file) if sys.stderr.isatty() else None


def _from_table(backend: Backend, table: str, database: str | None) -> tuple[Iterator[SourceRow], int | None]:
    """Return a table's rows, and their number."""
    from store.sources import count_rows, from_table

    where = (backend.database_url(), table) if database is None else (database, table, "--database")
    total = count_rows(*where)
    return from_table(*where), total


def _require_file(file: Path) -> None:
    if not file.name:
        raise Mistake("The name of the file is empty.")
    if file.is_dir():
        raise Mistake(f"{file} is a directory: name a file that `eventbus export` wrote.")
    if file.exists() and not file.is_file():
        raise Mistake(f"{file} is a device or a pipe: an import reads a file.")
    if not file.exists():
        raise Mistake(f"There is no file {file}.")


@contextmanager
def _set_aside(path: Path) -> Iterator[Callable[[Refused], None]]:
    """Give what writes a bad row; the file is made with the first, in the place of an earlier one."""
    file = None

    def refuse(row: Refused) -> None:
        nonlocal file
        try:
            if file is None:
                file = path.open("w", encoding="utf-8")
            line = {"row": row.number, "reason": row.reason, "raw": row.raw}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise Mistake(f"{path} cannot be written: {error.strerror}. Give another with --rejected.") from None

    try:
        yield refuse
    finally:
        if file is not None:
            file.close()
