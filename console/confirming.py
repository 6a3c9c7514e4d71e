"""What cannot be undone is asked about first: on a terminal by a question, elsewhere by an option."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from console.exits import Mistake

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


def confirm(question: str, yes: bool) -> None:
    """Go on if the answer is yes.

    Raises:
        Mistake: there is nobody to ask.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Mistake(f"{question} Add --yes to do it, or --dry-run to see more.")
    typer.confirm(question, abort=True, err=True)
