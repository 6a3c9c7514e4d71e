"""Asking the operator before something is done that is not undone easily."""

from __future__ import annotations

import sys

from console.exits import Mistake


def agreed(question: str, yes: bool) -> bool:
    """Ask on the terminal, unless `--yes` has answered already; return whether to go on.

    Raises:
        Mistake: there is no terminal to ask on.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Mistake(f"{question} There is no terminal to ask on: say --yes, or --dry-run to look first.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("Nothing was changed.", file=sys.stderr)
    return False
