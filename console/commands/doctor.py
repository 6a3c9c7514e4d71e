"""`eventbus doctor`: is everything as it should be? And putting back what Redis has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import FAILED, Mistake
from console.options import Json
from console.printing import console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from console.checks import Report

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Put back what the database knows to be waiting and Redis has lost.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --repair: say what it would do, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --repair: do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong, and what to do about it.

    Looks at servers, namespace, queues, workers, archive and database, and compares what the database says of
    deliveries with what Redis has; changes nothing. Ends with 0 when nothing is wrong (warnings may be there), with
    1 otherwise. Without REDIS_URL it looks at the bus in this directory, and says so when there is none.

    With --repair, also after a FLUSHALL, it declares a lost namespace again, lifts Redis's clock, and delivers again
    what the database has and nobody finished: each delivery under its own name, in history order, once, however often
    it is repeated, while workers and archivers run. Events that were not archived are lost with Redis, and nobody can
    tell which they were.

    \b
    Examples:
      eventbus doctor
      eventbus doctor --json | python -m json.tool
      eventbus doctor --repair --dry-run
      eventbus doctor --repair --yes
    """
    from console.checks import absent_file, examine
    from console.gaps import repair as mend
    from console.opening import reading

    if (dry_run or yes) and not repair:
        raise Mistake("--dry-run and --yes go with --repair; without it nothing is changed anyway.")
    with reading(may_restore=repair and not dry_run) as backend:
        if repair and (file := absent_file(backend)):
            raise Mistake(f"There is no file {file}: without a database nobody knows what Redis has lost.")
        highest = backend.archive.highest_position() if repair else 0
        repaired = mend(backend, highest, dry_run=dry_run, yes=yes, as_json=as_json) if repair else []
        report = examine(backend)
        report.numbers |= {"repaired": repaired} if repair else {}
    if as_json:
        print_json({"ok": report.is_ok, "findings": report.findings, **report.numbers})
    else:
        _print(console(), report)
    if not report.is_ok:
        raise typer.Exit(FAILED)


def _print(out: Console, report: Report) -> None:
    from rich.text import Text

    for finding in report.findings:
        line = Text().append(f"{finding.level:<8}", style=STYLES[finding.level])
        line.append(f"{finding.about}: ", style="bold").append(finding.says)
        out.print(line, soft_wrap=True)
        if finding.todo:
            out.print(Text(f"        -> {finding.todo}"), soft_wrap=True)
    wrong = sum(finding.level == "wrong" for finding in report.findings)
    warnings = sum(finding.level == "warning" for finding in report.findings)
    verdict = "Nothing is wrong" if not wrong else f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong"
    out.print(f"\n{verdict}{f', {warnings} to look at' if warnings else ''}.", style="bold", soft_wrap=True)
