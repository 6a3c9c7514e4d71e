"""`eventbus stats`: counts, costs and latencies per event type, and deliveries per subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.options import Json, Project
from console.printing import console, print_json

if TYPE_CHECKING:
    from store.statistics import DeliveryStatistics, ProjectStatistics


def command(project: Project = None, as_json: Json = False) -> None:
    """Show counts, costs and latencies per event type.

    And per subscriber how its deliveries ended. Exact over everything that was published before,
    archived or not; deliveries as far as archived. Averages and the 95th percentile are over the events
    that carry the measure.

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
    if as_json:
        print_json(_object(found, deliveries))
    else:
        print_statistics(console(), found, deliveries)


def _object(found: ProjectStatistics, deliveries: list[DeliveryStatistics]) -> dict[str, object]:
    return {"project_id": found.project_id, "total": found.total, "types": found.types, "deliveries": deliveries}
