"""`eventbus doctor`: is everything as it should be?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from console.exits import FAILED
from console.options import Json
from console.printing import console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from console.checks import Report

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def command(as_json: Json = False) -> None:
    """Say what is wrong, and what to do about it.

    Looks at servers, namespace, queues, workers, archive and database, and changes nothing. Ends with 0
    when nothing is wrong (warnings may be there), with 1 otherwise. Without REDIS_URL it looks at the bus
    in this directory, and says so when there is none.

    \b
    Examples:
      eventbus doctor
      eventbus doctor --json | python -m json.tool
    """
    from console.checks import examine
    from console.opening import reading

    with reading() as backend:
        report = examine(backend)
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
