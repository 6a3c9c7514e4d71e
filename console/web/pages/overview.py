"""*Overview*: what needs attention first, with where it is mended; then how the bus stands, live."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from console.web.pages.formats import link
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit


async def show(visit: Visit) -> Response:
    """Show how the bus stands."""
    found = (await visit.house.pulse.look()).whole
    mended = [one | {"mend": mended_at(one["code"], one["values"])} for one in found["attention"]]
    return render(visit, "overview.html", found=found | {"attention": mended}, numbers=_numbers(found))


def mended_at(code: str, values: dict[str, Any]) -> str:
    """Return the page on which something that needs attention is mended."""
    name = values.get("subscriber")
    if code == "dead_letters":
        return link("/dead-letters", subscriber=name)
    if code in ("nobody_works", "silent_worker", "archive_late", "outcomes_late"):
        return "/workers"
    return link("/subscriptions", search=name)


def _numbers(found: dict[str, Any]) -> dict[str, Any]:
    """Return the sums over all subscribers."""
    every = found.get("subscribers", ())
    return {
        "waiting": sum(one["ready"] + one["waiting"] + one["delayed"] for one in every),
        "running": sum(one["running"] for one in every),
        "dead": sum(one["dead"] for one in every),
        "oldest_s": max((one["oldest_s"] for one in every if one["oldest_s"] is not None), default=None),
    }


PAGE = Page(path="/", call=show)
