"""Dead letters over HTTP: read them, and decide about them, each once, a preview first if wanted."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice
from typing import Any

from console.deciding import OBSTACLES, WORDS, foreseen, of_copies, pages
from console.dossier import dossiers, emptied, letters_of, no_more_open
from console.exits import Mistake
from console.letters import dossier_object, letter_object
from console.web.access import Role
from console.web.api import questions
from console.web.operations import JSON, Answer, Asked, Operation, checked
from console.web.problems import refused
from console.web.shapes import Decisions, LetterDossier, LetterPage
from console.wording import plural
from events.backend import Backend
from events.dead_letters import Decision
from events.records import OPEN, DeadLetter, LetterFilter

SHOWN = 1000


async def list_letters(asked: Asked) -> dict[str, Any]:
    """Return dead letters that match."""
    query: questions.Letters = asked.query
    wanted, backend = query.wanted(), asked.house.backend

    def read() -> list[dict[str, Any]]:
        if query.decided:
            return [
                letter_object(letter, now) for letter, now in islice(no_more_open(backend, wanted), query.limit + 1)
            ]
        return _open(backend, wanted, query.limit + 1)

    found = await asked.read(read)
    return {"dead_letters": found[: query.limit], "is_all": len(found) <= query.limit}


async def get_letter(asked: Asked) -> dict[str, Any]:
    """Return all that is known of one dead letter."""
    name = asked.path["name"]
    wanted = LetterFilter(names=frozenset((name,)))
    found = await asked.read(lambda: next(dossiers(asked.house.backend, wanted), None))
    if found is None:
        raise refused(404, f"There is no dead letter {name!r:.200}.")
    return dossier_object(found)


async def decide(decision: Decision, asked: Asked) -> dict[str, Any]:
    """Decide about every open letter that the body names, or say what that would do."""
    order: questions.LetterOrder = checked(questions.LetterOrder, await asked.json(), "field")
    is_bounded = questions.given(order).keys() - {"all", "dry_run", "limit", "reason"}
    if not is_bounded and not order.all:
        raise Mistake('Nothing says which dead letters are meant: give a condition, or `"all": true`.')
    if is_bounded and order.all:
        raise Mistake("`all` and a condition do not go together: leave one out.")
    wanted = order.wanted()
    counts, shown, copies = await asked.read(
        lambda: _carried_out(decision, asked.who.name, order, asked.house.backend, wanted)
    )
    return {
        "dry_run": order.dry_run,
        "counts": counts,
        "copies": copies,
        "letters": shown,
        "says": _says(decision, order.dry_run, counts, copies),
    }


def _carried_out(
    decision: Decision, who: str, order: questions.LetterOrder, backend: Backend, wanted: LetterFilter
) -> tuple[Counter[str], list[dict[str, Any]], int]:
    """Decide, or foresee it: letters by verdict, what became of each, and how many copies in SQL are emptied."""
    if order.dry_run:
        counts, shown = _foresee(decision, backend, wanted, order.limit)
    else:
        counts, shown = _decide(decision, who, order.reason, backend, wanted, order.limit)
    if decision != "purged":
        return counts, shown, 0
    left = None if order.limit is None else max(0, order.limit - counts.total())
    return counts, shown, sum(count for _, count in emptied(backend, wanted, left, dry_run=order.dry_run))


def _open(backend: Backend, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
    letters, found = letters_of(backend), []
    for page in pages(backend, wanted, limit):
        holders = letters.holders(page)
        found += [letter_object(letter, OPEN, holder) for letter, holder in zip(page, holders, strict=True)]
    return found


def _decide(
    decision: Decision, who: str, reason: str, backend: Backend, wanted: LetterFilter, limit: int | None
) -> tuple[Counter[str], list[dict[str, Any]]]:
    counts: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    for page in pages(backend, wanted, limit):
        for one in letters_of(backend).decide(decision, page, who, reason):
            counts[one.verdict] += 1
            if len(shown) < SHOWN:
                becomes = one.redelivery if one.verdict == "settled" and decision == "redelivered" else None
                shown.append(_about(one.letter, one.verdict, becomes))
    return counts, shown


def _foresee(
    decision: Decision, backend: Backend, wanted: LetterFilter, limit: int | None
) -> tuple[Counter[str], list[dict[str, Any]]]:
    counts: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    declared = set(letters_of(backend).subscribers())
    for page in pages(backend, wanted, limit):
        for letter in page:
            verdict = foreseen(decision, letter, declared)
            counts[verdict] += 1
            if len(shown) < SHOWN:
                becomes = letter.redelivery + 1 if verdict == "settled" and decision == "redelivered" else None
                shown.append(_about(letter, verdict, becomes))
    return counts, shown


def _about(letter: DeadLetter, verdict: str, redelivery: int | None) -> dict[str, Any]:
    becomes = None if redelivery is None else f"{letter.event_position}:{letter.subscriber}:{redelivery}"
    return {"name": letter.name, "subscriber": letter.subscriber, "verdict": verdict, "becomes": becomes}


def _says(decision: Decision, dry_run: bool, counts: Counter[str], copies: int) -> list[str]:
    verb, done = WORDS[decision]
    number = plural(counts["settled"], "dead letter")
    said = [f"Would {verb} {number}." if dry_run else f"{done.capitalize()} {number}."]
    if copies:
        said.append(f"{of_copies(copies, dry_run=dry_run).capitalize()}.")
    return said + [
        f"{plural(counts[verdict], 'dead letter')} not: {why}." for verdict, why in OBSTACLES.items() if counts[verdict]
    ]


def _deciding(decision: Decision, summary: str) -> Operation:
    verb = WORDS[decision][0]
    return Operation(
        method="POST",
        path=f"/dead-letters/{verb}",
        name=f"{verb}_dead_letters",
        tag="Dead letters",
        summary=summary,
        about="Each is decided once, whoever else decides at the same time; asking again after a failure is safe.",
        call=partial(decide, decision),
        body={JSON: questions.LetterOrder},
        answers={200: Answer("What became of each, or would.", Decisions)},
        needs=Role.OPERATOR,
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/dead-letters",
        name="list_dead_letters",
        tag="Dead letters",
        summary="Deliveries that were given up.",
        call=list_letters,
        query=questions.Letters,
        answers={200: Answer("Dead letters.", LetterPage)},
    ),
    Operation(
        method="GET",
        path="/dead-letters/{name}",
        name="get_dead_letter",
        tag="Dead letters",
        summary="One dead letter with its traceback, attempts and causes.",
        call=get_letter,
        answers={200: Answer("The dead letter.", LetterDossier)},
        refusals=(404,),
    ),
    _deciding("redelivered", "Deliver them again; their attempts begin anew."),
    _deciding("discarded", "Give them up for good."),
    _deciding(
        "purged",
        "Give them up for good, and forget what they held, also of those decided before and of those that Redis lost.",
    ),
)
