"""The doctor's look at the outbox: what was committed and is not published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from console import wording

if TYPE_CHECKING:
    from console.checks import Report
    from store.outgoing import Waiting

LATE_S = 60.0


def examine_outbox(report: Report, waiting: Sequence[Waiting]) -> None:
    """Look at what waits in the outbox, and at what was refused."""
    report.numbers["outbox"] = waiting
    for rows in waiting:
        age_s = max((datetime.now(UTC) - rows.oldest).total_seconds(), 0.0)
        says = f"{wording.plural(rows.count, 'event')} {{}}; the oldest was added {wording.duration(age_s * 1000)} ago"
        _find(report, rows, says, is_late=age_s > LATE_S)


def _find(report: Report, rows: Waiting, says: str, *, is_late: bool) -> None:
    if rows.state == "refused":
        report.add(
            "wrong", "outbox", f"{says.format('refused')}. The newest: {rows.error}",
            "Mend what it says: they are tried again every minute. One that is not wanted any more: delete its row of "
            "the table `outbox`.",
        )  # fmt: skip
        return
    of_state = says.format("pending" if rows.state == "pending" else "published, and not in the database yet")
    if not is_late:
        report.add("ok", "outbox", f"{of_state}.")
    elif rows.state == "pending":
        report.add(
            "wrong", "outbox", f"{of_state}, and nobody publishes them.",
            "Start `eventbus archive`, or look at its log.",
        )  # fmt: skip
    else:
        report.add("warning", "outbox", f"{of_state}.", "Start `eventbus archive`, or look at its log.")
