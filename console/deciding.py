"""Deciding about dead letters a page at a time: however many there are, little is in memory and no step is long."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from console.confirming import confirm
from console.dossier import emptied, letters_of
from console.exits import FAILED, complain
from console.letters import describe, is_holder
from console.printing import plain, print_json
from console.wording import plural

if TYPE_CHECKING:
    from events.backend import Backend
    from events.dead_letters import Decision
    from events.records import DeadLetter, LetterFilter

# decision -> what is done, what was done
WORDS: dict[str, tuple[str, str]] = {
    "redelivered": ("retry", "retried"),
    "discarded": ("discard", "discarded"),
    "purged": ("purge", "purged"),
}
MAX_NAMED = 10


@dataclass(slots=True)
class Order:
    """What an operator asks for.

    Attributes:
        decision: about each letter that matches. wanted: which. limit: most letters; None is no limit.
        reason: why, one line. dry_run: change nothing, only say what would happen.
        yes: do not ask. as_json: an object for each letter.
    """

    decision: Decision
    wanted: LetterFilter
    limit: int | None
    reason: str
    dry_run: bool
    yes: bool
    as_json: bool


@dataclass(slots=True)
class _Tally:
    """What came of it: letters by verdict, names that met one, and copies in SQL that were emptied."""

    verdicts: Counter[str] = field(default_factory=Counter)
    met: set[str] = field(default_factory=set)
    copies: int = 0

    def meet(self, order: Order, letter: DeadLetter) -> None:
        if order.wanted.names:
            self.met |= order.wanted.names & order.wanted.names_of(letter)


def carry_out(backend: Backend, order: Order) -> None:
    """Decide about every letter that matches now, and say how many that were.

    Raises:
        Mistake: it cannot be undone, and there is nobody to ask.
        typer.Exit: with 1 when a letter could not be decided, or a name is no letter's.
        RedisUnavailable, ScriptFailed, StoreUnavailable: what was said before is done; asking again is safe.
    """
    if not (order.dry_run or order.yes):
        _ask(backend, order)
    tally = _Tally()
    for page in pages(backend, order.wanted, order.limit):
        for letter in page:
            tally.meet(order, letter)
        (_rehearse if order.dry_run else _decide)(backend, order, page, tally)
    if order.decision == "purged":
        _purge_copies(backend, order, tally)
    _conclude(order, tally)


def _ask(backend: Backend, order: Order) -> None:
    """Ask whether all that matches is to be given up; where nothing does, there is nothing to ask."""
    letters = sum(len(page) for page in pages(backend, order.wanted, order.limit))
    what = f"{WORDS[order.decision][0].capitalize()} {_letters(letters)}"
    copies = 0
    if order.decision == "purged":
        left = None if order.limit is None else max(0, order.limit - letters)
        copies = sum(count for _, count in emptied(backend, order.wanted, left, dry_run=True))
        what += f" and empty {plural(copies, 'copy', 'copies')} in the database" if copies else ""
    if letters or copies:
        confirm(f"{what} for good?", yes=False)


def who() -> str:
    """Name the operator, for the outcomes of decisions."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"  # a container without a list of users
    return f"{user}@{socket.gethostname()}"


def pages(backend: Backend, wanted: LetterFilter, limit: int | None) -> Iterator[list[DeadLetter]]:
    """Iterate over the open letters that match, at most `limit` of them, a page at a time."""
    left = limit
    for page in letters_of(backend).pages(wanted):
        yield page[:left]
        if left is not None:
            left -= len(page[:left])
            if not left:
                return


def _decide(backend: Backend, order: Order, page: Sequence[DeadLetter], tally: _Tally) -> None:
    decided = letters_of(backend).decide(order.decision, page, who(), order.reason)
    for one in decided:
        tally.verdicts[one.verdict] += 1
        if order.as_json:
            becomes = _name(one.letter, one.redelivery) if one.verdict == "settled" else None
            print_json(_answer(order, one.letter, one.verdict, becomes))
    if tally.verdicts.total() > len(page):
        print(f"{tally.verdicts['settled']:,} {WORDS[order.decision][1]} ...", file=sys.stderr, flush=True)


def _answer(order: Order, letter: DeadLetter, verdict: str, becomes: str | None) -> dict[str, object]:
    answer: dict[str, object] = {"name": letter.name, "verdict": verdict, "dry_run": order.dry_run}
    return answer | ({"becomes": becomes} if order.decision == "redelivered" else {})


def _name(letter: DeadLetter, redelivery: int) -> str:
    return f"{letter.event_position}:{letter.subscriber}:{redelivery}"


def _rehearse(backend: Backend, order: Order, page: Sequence[DeadLetter], tally: _Tally) -> None:
    """Say what would happen to each letter, and do nothing."""
    holders = letters_of(backend).holders(page)
    is_declared = set(letters_of(backend).subscribers())
    for letter, holder in zip(page, holders, strict=True):
        verdict = foreseen(order.decision, letter, is_declared)
        tally.verdicts[verdict] += 1
        if order.as_json:
            becomes = _name(letter, letter.redelivery + 1) if verdict == "settled" else None
            print_json(_answer(order, letter, verdict, becomes))
        else:
            print(f"{_would(order, verdict)} {describe(letter)}{_effect(order, verdict, letter, holder)}")


def foreseen(decision: Decision, letter: DeadLetter, declared: Collection[str]) -> str:
    """Return the verdict that a decision about an open letter would meet, unless somebody else decides first."""
    if decision == "redelivered" and letter.subscriber not in declared:
        return "undeclared"
    return "unreadable" if decision == "redelivered" and not letter.event_position else "settled"


def _would(order: Order, verdict: str) -> str:
    return f"{'would' if verdict == 'settled' else 'cannot'} {WORDS[order.decision][0]}"


def _effect(order: Order, verdict: str, letter: DeadLetter, holder: str) -> str:
    if verdict != "settled":
        return f": {OBSTACLES[verdict]}"
    if order.decision != "redelivered":
        return f"; {plain(letter.lane)}, which it blocks, goes on" if is_holder(letter, holder) else ""
    becomes = f" as {_name(letter, letter.redelivery + 1)}"
    if is_holder(letter, holder):
        return f"{becomes}; it goes on holding {plain(letter.lane)}"
    return f"{becomes}; it waits for {holder}, which holds {plain(letter.lane)}" if holder else becomes


def _purge_copies(backend: Backend, order: Order, tally: _Tally) -> None:
    left = None if order.limit is None else max(0, order.limit - tally.verdicts.total())
    for letters, count in emptied(backend, order.wanted, left, dry_run=order.dry_run):
        tally.copies += count
        for letter in letters:
            tally.meet(order, letter)
            if order.dry_run and not order.as_json:
                print(f"would empty the copy of {describe(letter)} in the database")


def of_copies(count: int, *, dry_run: bool) -> str:
    """Say how many copies in the database a purge empties."""
    return f"{'would empty' if dry_run else 'emptied'} {plural(count, 'copy', 'copies')} in the database"


# Why a letter is not decided, by its verdict.
OBSTACLES = {
    "gone": "somebody else had decided about it",
    "unreadable": "it never was a delivery; discard or purge it",
    "undeclared": "nobody declares its subscriber any more; start a worker that does, or discard it",
}


def _conclude(order: Order, tally: _Tally) -> None:
    verb, done = WORDS[order.decision]
    parts = [f"{f'Would {verb}' if order.dry_run else done.capitalize()} {_letters(tally.verdicts['settled'])}"]
    if tally.copies:
        parts.append(of_copies(tally.copies, dry_run=order.dry_run))
    parts += [f"{_letters(tally.verdicts[word])} not: {why}" for word, why in OBSTACLES.items() if tally.verdicts[word]]
    if order.dry_run:
        parts.append("nothing was changed")
    # Under --json stdout holds the letters alone.
    print("; ".join(parts) + ".", file=sys.stderr if order.as_json else sys.stdout)
    missing = sorted(order.wanted.names - tally.met)
    if missing:
        shown = ", ".join(missing[:MAX_NAMED]) + (", ..." if len(missing) > MAX_NAMED else "")
        complain(f"No open dead letter is named {shown}; `eventbus dead show` tells of those already decided.")
    if missing or tally.verdicts["unreadable"] or tally.verdicts["undeclared"]:
        raise typer.Exit(FAILED)


def _letters(count: int) -> str:
    return plural(count, "dead letter")
