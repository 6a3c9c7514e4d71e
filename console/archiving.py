"""The doctor's look at the archive: what is in Redis alone, and since when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console import wording

if TYPE_CHECKING:
    from console.checks import Report, Stored
    from events.inspection import Backlog

STUCK_S = 60.0


def examine_archive(report: Report, backlog: Backlog, stored: Stored) -> None:
    """Look at what waits to be archived. How long it waits tells a dead archiver from a busy one, not how much."""
    if stored.state == "empty" and backlog.archived:
        report.add(
            "wrong", "archive",
            f"Redis was told that the database has history up to position {backlog.archived}, and may have trimmed it; "
            "the database has none.",
            "Check DATABASE_URL and EVENTBUS_HOME, or restore the database from a backup.",
        )  # fmt: skip
    ages = [age for age in (backlog.oldest_s, backlog.outcomes_oldest_s) if age is not None]
    if not ages:
        if stored.state == "read":
            report.add("ok", "archive", "The database has all of history.")
        return
    says = f"{_waiting(backlog)} are not in the database yet, the oldest since {wording.duration(max(ages) * 1000)}."
    if max(ages) > STUCK_S:
        report.add("wrong", "archive", says, "Start `eventbus archive`; if one runs, its log says for what it waits.")
    else:
        report.add("ok", "archive", says)


def _waiting(backlog: Backlog) -> str:
    more = "More than " if backlog.unarchived_is_lower_bound else ""
    return f"{more}{wording.plural(backlog.unarchived, 'event')} and {wording.plural(backlog.outcomes, 'outcome')}"


def examine_end(report: Report, backlog: Backlog, cursor: int) -> None:
    """Look whether SQL has history as far as Redis was told; `cursor` is how far it has."""
    if backlog.archived > cursor:
        report.add(
            "wrong", "archive",
            f"SQL is behind what Redis was told: SQL has history up to position {cursor}, Redis was told "
            f"{backlog.archived} and may have trimmed what lies between. SQL was restored from an older backup, or is "
            "another database.",
            "Check DATABASE_URL, or restore a newer backup. What is published from now on is archived in any case.",
        )  # fmt: skip
