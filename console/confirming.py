"""What cannot be undone is asked about first: on a terminal by a question, elsewhere by an option."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from console.exits import Mistake

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]


def agreed(question: str, yes: bool, *, otherwise: str = "--yes, or --dry-run to look first") -> bool:
    """Ask on the terminal, unless `--yes` has answered already; return whether to go on.

    Args:
        otherwise: the options that are an answer where there is no terminal.

    Raises:
        Mistake: there is no terminal to ask on.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Mistake(f"{question} There is no terminal to ask on: say {otherwise}.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("Nothing was changed.", file=sys.stderr)
    return False


def confirm(question: str, yes: bool, *, otherwise: str = "--yes, or --dry-run to look first") -> None:
    """Go on if `agreed` returns that; else end the command, which has done nothing then.

    Raises:
        Mistake: as `agreed`.
        typer.Exit: the answer is no.
    """
    if not agreed(question, yes, otherwise=otherwise):
        raise typer.Exit
