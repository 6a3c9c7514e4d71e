"""`eventbus stats`: counts, costs and latencies per event type, and deliveries per subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.options import Json, Project
from console.printing import console, print_json
from console.wording import plural

if TYPE_CHECKING:
    from store.statistics import DeliveryStatistics, ProjectStatistics


def command(project: Project = None, as_json: Json = False) -> None:
    """Show counts, costs and latencies per event type.

    And per subscriber how its deliveries ended, and how many dead letters nobody has decided about. Exact over
    everything that was published before, archived or not; deliveries and dead letters as far as archived.
    Averages and the 95th percentile are over the events that carry the measure.

    \b
    Examples:
      eventbus stats
      eventbus stats --project P-1 --json
    """
    from console.opening import reading
    from console.statistics import print_statistics

    with reading() as backend:
        found = backend.blackboard.statistics.project(project)
        deliveries = backend.blackboard.statistics.deliveries()
        open_letters = backend.blackboard.dead_letters.open_counts()
    if as_json:
        print_json(_object(found, deliveries, open_letters))
        return
    print_statistics(console(), found, deliveries)
    if count := sum(open_letters.values()):
        wait = "waits" if count == 1 else "wait"
        print(f"\n{plural(count, 'dead letter')} {wait} for a decision: see `eventbus dead list`.")


def _object(
    found: ProjectStatistics, deliveries: list[DeliveryStatistics], open_letters: dict[str, int]
) -> dict[str, object]:
    return {
        "project_id": found.project_id,
        "total": found.total,
        "types": found.types,
        "deliveries": deliveries,
        "open_dead_letters": open_letters,
    }
