"""Where store and Redis differ about deliveries, in sentences; and putting back what Redis has lost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from console import wording
from console.confirming import agreed

if TYPE_CHECKING:
    from console.checks import Report
    from events.backend import Backend
    from events.mending import Key
    from workers.gaps import Gaps, Repaired

NAMED = 3
REPAIR = "`eventbus doctor --repair` puts them back; with --dry-run it only says so."


def examine_gaps(report: Report, backend: Backend, highest: int, *, is_lost: bool) -> None:
    """Add a finding for each gap.

    Args:
        highest: the highest position that the store knows.
        is_lost: Redis has lost the namespace, so nobody is declared until somebody declares it again.
    """
    found = survey(backend, is_lost=is_lost)
    report.numbers["gaps"] = [gaps_object(gaps) for gaps in found]
    for gaps in found:
        _lost(report, gaps)
        _stuck(report, gaps)
        _too_much(report, gaps)
    _clock(report, backend, highest, is_lost=is_lost)
    _letters(report, backend)
    _unstored(report, backend)
    _under_way(report, backend)
    if not found:
        report.add("ok", "deliveries", "Redis has every delivery that waits according to the database.")


def survey(backend: Backend, *, is_lost: bool = False) -> list[Gaps]:
    """Return the subscribers about whose deliveries store and Redis differ."""
    remembered = {row.subscriber for row in backend.registry.all()} if is_lost else set()
    found = [gaps for gaps in _surveyor(backend).survey() if not gaps.is_clean]
    for gaps in found:
        gaps.is_declared = gaps.is_declared or gaps.subscriber in remembered
    return found


def repair(backend: Backend, highest: int, *, dry_run: bool, yes: bool, as_json: bool) -> list[Repaired]:
    """Declare a lost namespace again, lift the clock, and put back what Redis has lost; or say what that would be.

    Returns:
        What was put back, by subscriber.

    Raises:
        Mistake: nobody can be asked.
    """
    from events.inspection import Inspection

    is_lost = Inspection(backend.namespace).epoch() is None
    found = [gaps for gaps in survey(backend, is_lost=is_lost) if gaps.can_be_mended]
    is_behind = not is_lost and backend.history.clock() < highest
    if not (found or is_lost or is_behind):
        _say("There is nothing to repair.", as_json)
        return []
    plan = [f"declare the namespace {backend.settings.namespace!r} again"] if is_lost else []
    plan += ["lift Redis's clock to the database's"] if is_behind else []
    plan += [_plan(gaps) for gaps in found]
    if dry_run:
        _say(f"Would {'; '.join(plan)}. Nothing was changed.", as_json)
    elif agreed(f"Repair? It would {'; '.join(plan)}.", yes):
        backend.namespace.open()
        backend.history.lift(highest)
        found = [gaps for gaps in survey(backend) if gaps.can_be_mended] if is_lost else found
        done = [_surveyor(backend).repair(gaps, _progress(gaps)) for gaps in found]
        for repaired in done:
            _say(_conclusion(repaired), as_json)
        return done
    return []


def gaps_object(gaps: Gaps) -> dict[str, Any]:
    """Return the gaps of a subscriber as JSON shows them: counts, and the first deliveries by name."""
    named = {
        name: {"count": len(keys), "first": [_name(gaps, key) for key in keys[:NAMED]]}
        for name in ("lost", "eventless", "ended", "foreign")
        if (keys := getattr(gaps, name))
    }
    return {
        "subscriber": gaps.subscriber,
        "is_declared": gaps.is_declared,
        **named,
        "held_by_nobody": sorted(gaps.free),
        "unlisted_lanes": gaps.unlisted,
    }


def _lost(report: Report, gaps: Gaps) -> None:
    about = f"subscriber {gaps.subscriber}"
    if gaps.lost:
        says = f"{_many(gaps.lost)} wait according to the database and are nowhere in Redis: {_first(gaps, gaps.lost)}."
        todo = REPAIR if gaps.is_declared else (
            f"Nobody declares {gaps.subscriber} any more: start a worker that does, then `eventbus doctor --repair`."
        )  # fmt: skip
        report.add("wrong", about, says, todo)
    if gaps.eventless:
        report.add(
            "warning", about,
            f"{_many(gaps.eventless)} wait according to the database, which does not have their events, and are "
            f"nowhere in Redis: {_first(gaps, gaps.eventless)}.",
            "They cannot be put back. The table `rejected` may tell what the events were; publish them anew.",
        )  # fmt: skip


def _stuck(report: Report, gaps: Gaps) -> None:
    about = f"subscriber {gaps.subscriber}"
    if gaps.free:
        keys = ", ".join(repr(lane) for lane in sorted(gaps.free)[:NAMED])
        report.add(
            "wrong", about,
            f"{wording.plural(len(gaps.free), 'key is', 'keys are')} held by deliveries that are nowhere, and wait for "
            f"ever: {keys}.",
            "`eventbus doctor --repair` lets them go on.",
        )  # fmt: skip
    if gaps.unlisted:
        lanes = ", ".join(repr(lane) for lane in gaps.unlisted[:NAMED])
        report.add(
            "wrong", about,
            f"{wording.plural(len(gaps.unlisted), 'lane waits', 'lanes wait')} that nobody would look into: {lanes}.",
            "`eventbus doctor --repair` lists them.",
        )  # fmt: skip


def _too_much(report: Report, gaps: Gaps) -> None:
    about = f"subscriber {gaps.subscriber}"
    if gaps.ended:
        report.add(
            "warning", about,
            f"{_many(gaps.ended)} had ended and are in Redis again, which went back in time: "
            f"{_first(gaps, gaps.ended)}.",
            "They run once more; the database keeps how they ended first.",
        )  # fmt: skip
    if gaps.foreign:
        report.add(
            "warning", about,
            f"{_many(gaps.foreign)} in Redis are of events that neither history nor the database has: "
            f"{_first(gaps, gaps.foreign)}.",
            "They are handled, and nobody can tell why they happened. Find out who writes to Redis by hand, or "
            "whether the database was restored from an older backup.",
        )  # fmt: skip


def _clock(report: Report, backend: Backend, highest: int, *, is_lost: bool) -> None:
    clock = backend.history.clock()
    if not is_lost and clock < highest:
        report.add(
            "wrong", "namespace",
            f"Redis's clock is at {clock}, behind the database, which knows positions up to {highest}: what is "
            "published gets places that readers have passed.",
            "An archiver lifts it within a second of its start; `eventbus doctor --repair` does so now.",
        )  # fmt: skip


def _letters(report: Report, backend: Backend) -> None:
    from console.dossier import purgeable
    from events.records import OPEN, LetterFilter

    lost = [letter for page in purgeable(backend, LetterFilter()) for letter in page if letter.resolution == OPEN]
    if lost:
        names = ", ".join(letter.name for letter in lost[:NAMED])
        report.add(
            "warning", "dead letters",
            f"Redis has lost {wording.plural(len(lost), 'dead letter')} about which nobody had decided: {names}.",
            "`eventbus dead list --resolved` shows them as lost. `eventbus replay --to SUBSCRIBER` delivers their "
            "events again; `eventbus dead purge` closes them.",
        )  # fmt: skip


def _unstored(report: Report, backend: Backend) -> None:
    from console.dossier import unstored

    if names := unstored(backend):
        more = ", ..." if len(names) > NAMED else ""
        report.add(
            "warning", "dead letters",
            f"The database does not have {wording.plural(len(names), 'dead letter')} that Redis has, or not as open: "
            f"{', '.join(names[:NAMED])}{more}.",
            "`eventbus dead retry` and `eventbus dead discard` decide about them. Until then `eventbus prune` keeps "
            "their events, and what is later.",
        )  # fmt: skip


def _under_way(report: Report, backend: Backend) -> None:
    from events.inspection import Inspection
    from events.redelivery import under_way

    names = Inspection(backend.namespace).subscribers()
    for name, (cursor, made) in under_way(backend.namespace, names).items():
        report.add(
            "warning", f"subscriber {name}",
            f"A redelivery to it is under way or was interrupted: {wording.plural(made, 'event')} delivered, up to "
            f"position {cursor}.",
            f"If nothing drives it, `eventbus replay --to {name} --resume` goes on with it, --abandon gives it up.",
        )  # fmt: skip


def _surveyor(backend: Backend) -> Any:
    from workers.gaps import Surveyor

    return Surveyor(backend.namespace, backend.history, backend.blackboard.deliveries)


def _plan(gaps: Gaps) -> str:
    parts = [f"put back {_many(gaps.lost)}"] if gaps.lost else []
    parts += [f"let go of {wording.plural(len(gaps.free), 'key')}"] if gaps.free else []
    parts += [f"list {wording.plural(len(gaps.unlisted), 'lane')}"] if gaps.unlisted else []
    return f"{', '.join(parts)} of {gaps.subscriber}"


def _progress(gaps: Gaps) -> Any:
    def say(count: int) -> None:
        if count < len(gaps.lost):
            print(f"{gaps.subscriber}: {count:,} of {len(gaps.lost):,} put back ...", file=sys.stderr, flush=True)

    return say


def _conclusion(repaired: Repaired) -> str:
    parts = [f"put back {wording.plural(repaired.deliveries, 'delivery', 'deliveries')}"]
    parts += [f"let go of {wording.plural(repaired.holds, 'key')}"] if repaired.holds else []
    parts += [f"listed {wording.plural(repaired.lanes, 'lane')}"] if repaired.lanes else []
    return f"{repaired.subscriber}: {', '.join(parts)}."


def _say(sentence: str, as_json: bool) -> None:
    print(sentence, file=sys.stderr if as_json else sys.stdout)


def _many(keys: Sequence[Key]) -> str:
    return wording.plural(len(keys), "delivery", "deliveries")


def _first(gaps: Gaps, keys: Sequence[Key]) -> str:
    return ", ".join(_name(gaps, key) for key in keys[:NAMED]) + (", ..." if len(keys) > NAMED else "")


def _name(gaps: Gaps, key: Key) -> str:
    return f"{key[0]}:{gaps.subscriber}:{key[1]}"
