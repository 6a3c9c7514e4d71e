"""What became of dead letters: told by Redis, by SQL, and by outcomes that SQL does not have yet.

A decision removes the letter and writes its outcome in one step; the archiver moves the outcome into SQL
later. So Redis is asked first, then the unarchived outcomes, then SQL: what is in none of them is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from events.records import OPEN, LetterFilter, Outcome

if TYPE_CHECKING:
    from events.backend import Backend
    from events.dead_letters import DeadLetters
    from events.records import DeadLetter, RecordedEvent

LOST = "lost"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that is known of one letter.

    Attributes:
        letter: with its texts. now: its resolution, or `lost`.
        holder: what holds its ordered lane, while it is open.
        outcomes: of its event at its subscriber, every redelivery's attempts and decisions, oldest first.
        decision: the outcome that decided about it.
        chain: its event's causation chain; empty when that is not known.
    """

    letter: DeadLetter
    now: str
    holder: str = ""
    outcomes: tuple[Outcome, ...] = ()
    decision: Outcome | None = None
    chain: tuple[RecordedEvent, ...] = field(default=())


def letters_of(backend: Backend) -> DeadLetters:
    """Return the dead letters that Redis has."""
    from events.dead_letters import DeadLetters

    return DeadLetters(backend.namespace)


def no_more_open(backend: Backend, wanted: LetterFilter) -> Iterator[tuple[DeadLetter, str]]:
    """Iterate over letters about which somebody has decided, or that Redis lost; each with what it is now.

    Those that SQL has come first, without their texts; then those that are not archived.
    """
    pending = _pending(backend)
    for page in backend.blackboard.dead_letters.pages(wanted):
        for letter, now in _without_open(backend, page):
            yield letter, now
            pending.pop(letter.position, None)
    for letter in _unarchived_letters(backend, pending):
        if wanted.matches(letter):
            yield letter, pending[letter.position].resolution


def purgeable(backend: Backend, wanted: LetterFilter) -> Iterator[list[DeadLetter]]:
    """Iterate over pages of archived letters that SQL alone can purge: decided in SQL, or lost.

    What somebody has just decided is not among them: the archiver writes its decision first.
    """
    for page in backend.blackboard.dead_letters.pages(wanted, purgeable=True):
        found = [letter for letter, now in _without_open(backend, page) if letter.resolution != OPEN or now == LOST]
        if found:
            yield found


def emptied(
    backend: Backend, wanted: LetterFilter, limit: int | None, *, dry_run: bool
) -> Iterator[tuple[list[DeadLetter], int]]:
    """Empty the copies of letters that are in Redis no more, a page at a time; SQL keeps why each was given up.

    The other half of a purge, after the decision about those that Redis has.

    Args:
        limit: most copies; None is no limit. dry_run: change nothing.

    Yields:
        Letters, and how many of their copies were emptied, or would be.
    """
    left = limit
    for page in purgeable(backend, wanted):
        letters = page[:left]
        if not letters:
            return
        yield letters, len(letters) if dry_run else backend.blackboard.dead_letters.purge(letters)
        left = None if left is None else left - len(letters)


def unstored(backend: Backend) -> list[str]:
    """Return the names of letters that are open in Redis, and neither in the database nor on their way there."""
    board = backend.blackboard.dead_letters
    names: dict[int, str] = {}
    for page in letters_of(backend).pages(LetterFilter(), _PAGE):
        there = board.open_among([letter.position for letter in page])
        names |= {letter.position: letter.name for letter in page if letter.position not in there}
    # What is not archived is told by outcomes; what left them since is in SQL now; what was decided is gone.
    told = {outcome.letter for outcome in unarchived(backend)} if names else set()
    there = board.open_among(names)
    return [name for position, name in names.items() if position not in told | there]


def dossiers(backend: Backend, wanted: LetterFilter) -> Iterator[Dossier]:
    """Iterate over all that is known of each letter that matches, open or not."""
    letters = letters_of(backend)
    shown = set()
    for page in letters.pages(wanted):
        for letter, holder in zip(page, letters.holders(page), strict=True):
            shown.add(letter.position)
            yield _dossier(backend, letter, OPEN, holder)
    for letter, now in no_more_open(backend, wanted):
        if letter.position not in shown:
            stored = backend.blackboard.dead_letters.find([letter.position])
            yield _dossier(backend, stored.get(letter.position, letter), now)


def _without_open(backend: Backend, page: Sequence[DeadLetter]) -> Iterator[tuple[DeadLetter, str]]:
    undecided = [letter for letter in page if letter.resolution == OPEN]
    gone = [letter for letter, there in zip(undecided, letters_of(backend).has(undecided), strict=True) if not there]
    pending = _pending(backend) if gone else {}
    known = backend.blackboard.dead_letters.find([letter.position for letter in gone]) if gone else {}
    resolutions = {letter.position: _now_of(known.get(letter.position, letter), pending) for letter in gone}
    for letter in page:
        if letter.resolution != OPEN:
            yield letter, letter.resolution
        elif letter.position in resolutions:
            yield letter, resolutions[letter.position]


def _now_of(letter: DeadLetter, pending: dict[int, Outcome]) -> str:
    if letter.position in pending:
        return pending[letter.position].resolution
    return letter.resolution if letter.resolution != OPEN else LOST


def _dossier(backend: Backend, letter: DeadLetter, now: str, holder: str = "") -> Dossier:
    fresh = [outcome for outcome in unarchived(backend) if _is_about(outcome, letter)]
    stored = backend.blackboard.dead_letters
    outcomes = {outcome.position: outcome for outcome in [*fresh, *stored.attempts(letter)]}
    decided = [outcome for outcome in fresh if _decides(outcome) and outcome.letter == letter.position]
    return Dossier(
        letter=letter,
        now=now,
        holder=holder,
        outcomes=tuple(outcomes[position] for position in sorted(outcomes)),
        decision=decided[0] if decided else stored.decision(letter),
        chain=_chain(backend, letter),
    )


def _is_about(outcome: Outcome, letter: DeadLetter) -> bool:
    is_its_delivery = (outcome.event_position, outcome.subscriber) == (letter.event_position, letter.subscriber)
    return outcome.letter == letter.position or (letter.event_position > 0 and is_its_delivery)


def _decides(outcome: Outcome) -> bool:
    return outcome.letter > 0 and outcome.resolution != OPEN


def _pending(backend: Backend) -> dict[int, Outcome]:
    """Return the decisions that SQL does not have yet, by letter."""
    return {outcome.letter: outcome for outcome in unarchived(backend) if _decides(outcome)}


def _unarchived_letters(backend: Backend, pending: dict[int, Outcome]) -> Iterator[DeadLetter]:
    """Iterate over letters that were made and decided, and SQL knows neither."""
    from events.records import DeadLetter

    for made in unarchived(backend) if pending else ():
        if made.letter in pending and made.resolution == OPEN:
            position = made.event_position
            found = backend.blackboard.replay.page(after=position - 1, limit=1).events if position else ()
            event = found[0].event if found and found[0].position == position else None
            yield DeadLetter(
                made.letter, made.subscriber, position, made.redelivery, made.attempt, made.worker, made.error, event,
                made.traceback, made.output, made.raw,
            )  # fmt: skip


def unarchived(backend: Backend) -> Iterator[Outcome]:
    """Iterate over the outcomes that SQL may not have yet, oldest first."""
    last, entries = "0-0", backend.history.entries_after("outcomes", "0-0", _PAGE)
    while entries:
        yield from (record for _, record in entries if isinstance(record, Outcome))
        last = entries[-1][0]
        entries = backend.history.entries_after("outcomes", last, _PAGE)


def _chain(backend: Backend, letter: DeadLetter) -> tuple[RecordedEvent, ...]:
    from events.errors import EventNotFound

    if letter.event is None:
        return ()
    try:
        return tuple(backend.blackboard.causation.chain(letter.event.event_id))
    except EventNotFound:
        return ()
