"""*A project*: its timeline with a lane per actor, its events, and what it costs by type and actor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from console.exits import Mistake
from console.printing import event_object
from console.web.api import history, numbers, questions
from console.web.api.timeline import get_timeline
from console.web.pages.events import NOTHING_FOUND, stretch
from console.web.pages.formats import milliseconds, percent
from console.web.pages.rendering import render
from console.web.pages.visit import Page, Visit
from events.errors import EventNotFound, InvalidFilter

SHOWN = 50
FIELDS = ("type", "actor", "correlation", "since", "until", "payload", "metadata")
MOST_EVENTS = 1000
MOST_ROOTS = 5
TICKS = 6
# Deliveries that overlap lie below each other, in at most so many rows of so many pixels.
MOST_ROWS = 8
ROW_PX, EDGE_PX, LEAST_PX = 10, 8, 30
# What is shorter than this share of the whole is drawn so wide, to be seen and hit.
LEAST = 0.0025


async def show(visit: Visit) -> Response:
    """Show one project.

    Raises:
        EventNotFound: it has no event.
    """
    id, sentence = visit.one("id"), ""
    statistics = await visit.ask(numbers.get_statistics, questions.OfProject(project=id))
    if not id or not statistics["total"].count:
        raise EventNotFound(f"No event of a project {id!r:.200} was ever published: check its name, and the namespace.")
    found = await visit.ask(get_timeline, questions.Timeline(project=id, limit=MOST_EVENTS))
    try:
        events = await stretch(visit, SHOWN, project=id)
    except (Mistake, InvalidFilter) as error:
        events, sentence = NOTHING_FOUND, str(error)
    given = visit.split("type")
    return render(
        visit,
        "project.html",
        400 if sentence else 200,
        id=id,
        statistics=statistics,
        drawn=drawn(found),
        roots=await roots(visit, found["roots"][:MOST_ROOTS]),
        more_roots=max(0, len(found["roots"]) - MOST_ROOTS),
        found=events,
        given={name: given.get(name, "") for name in FIELDS},
        filters={name: given[name] for name in FIELDS if name in given},
        sentence=sentence,
    )


async def roots(visit: Visit, counted: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that set off what the timeline shows, each with how much of it; unknown ones are left out."""
    found = []
    for one in counted:
        with suppress(EventNotFound):
            recorded = await visit.ask(history.find, event_id=one["event_id"])
            found.append(event_object(recorded) | {"count": one["count"]})
    return found


def drawn(found: dict[str, Any]) -> dict[str, Any]:
    """Return a timeline as it is drawn: lanes with bars and dots, places as shares of the whole width."""
    first, last = _range(found)
    whole = max((last - first).total_seconds(), 0.001)

    def place(moment: datetime) -> float:
        return (moment - first).total_seconds() / whole

    lanes: dict[str, dict[str, Any]] = {}
    for mark in found["marks"]:
        lane = lanes.setdefault(mark["actor"], _lane(mark["actor"]))
        lane["dots"].append({**mark, "x": percent(place(mark["at"]), 1)})
        lane["first"] = min(lane["first"], place(mark["at"]))
    for span in found["spans"]:
        lane = lanes.setdefault(span["subscriber"], _lane(span["subscriber"]))
        _add(lane, span, place, last)
    for lane in lanes.values():
        _pack(lane)
    return {
        "lanes": sorted(lanes.values(), key=lambda lane: lane["first"]),
        "ticks": list(_ticks(whole)),
        "is_all": found["is_all"],
        "first": first,
        "whole_ms": whole * 1000,
    }


def _lane(name: str) -> dict[str, Any]:
    return {"name": name, "dots": [], "bars": [], "first": 2.0, "waited_ms": 0.0, "ran_ms": 0.0}


def _add(lane: dict[str, Any], span: dict[str, Any], place: Any, last: datetime) -> None:
    began, ended = span["began"] or last, span["ended"] or last
    start, middle, end = place(span["waited_from"]), place(began), place(ended)
    waited, ran = began - span["waited_from"], ended - began if span["began"] else timedelta()
    lane["waited_ms"] += waited.total_seconds() * 1000
    lane["ran_ms"] += ran.total_seconds() * 1000
    lane["first"] = min(lane["first"], start)
    bar = {**span, "waited_ms": waited.total_seconds() * 1000, "ran_ms": ran.total_seconds() * 1000}
    bar |= {
        "start": start,
        "end": max(end, middle + LEAST),
        "x": percent(start, 1),
        "waits": percent(middle - start, 1),
        "run_x": percent(middle, 1),
    }
    bar["runs"] = percent(max(end - middle, LEAST), 1) if span["began"] else None
    lane["bars"].append(bar)


def _pack(lane: dict[str, Any]) -> None:
    """Give every bar of a lane the first row that is free; when all are taken, the one that is free first."""
    free: list[float] = []
    for bar in sorted(lane["bars"], key=lambda bar: (bar["start"], bar["end"])):
        row = next((row for row, until in enumerate(free) if until <= bar["start"]), None)
        if row is None and len(free) < MOST_ROWS:
            row = len(free)
            free.append(0.0)
        elif row is None:
            row = free.index(min(free))
        free[row] = bar["end"]
        bar["y"] = EDGE_PX // 2 + row * ROW_PX
    rows = max(1, len(free))
    lane["height"] = max(LEAST_PX, rows * ROW_PX + EDGE_PX + 4)
    for bar in lane["bars"]:
        bar["y"] += (lane["height"] - rows * ROW_PX - EDGE_PX - 4) // 2
    lane["bars"].sort(key=lambda bar: bar["start"])


def _range(found: dict[str, Any]) -> tuple[datetime, datetime]:
    moments: list[datetime] = [mark["at"] for mark in found["marks"]]
    moments += _moments(found["spans"])
    return min(moments), max(moments)


def _moments(spans: Iterable[dict[str, Any]]) -> Sequence[datetime]:
    return [moment for span in spans for moment in (span["waited_from"], span["ended"]) if moment is not None]


def _ticks(whole_s: float) -> Iterable[dict[str, str]]:
    """Return round moments after the beginning, at most `TICKS` and some."""
    step = next((step for step in _STEPS if whole_s / step <= TICKS), _STEPS[-1])
    number = 1
    while number * step < whole_s * 0.97 and number < 100:
        yield {"x": percent(number * step, whole_s), "text": _round(number * step)}
        number += 1


def _round(seconds: float) -> str:
    if seconds < 1:
        return milliseconds(seconds * 1000)
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"


_STEPS = [
    *(number * 10.0**power for power in (-3, -2, -1, 0) for number in (1, 2, 5)),
    10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800, 2_592_000,
]  # fmt: skip
PAGE = Page(path="/project", call=show)
