"""Makes HTML of a page's values. Everything that comes from data is escaped: no value is ever marked as safe."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from console.web.pages import formats, words
from console.web.pages.visit import THEMES, Visit

TEMPLATES = Path(__file__).parent.parent / "templates"
# In the order of the navigation: group, then name, path and the key that follows `g`.
NAVIGATION = (
    (
        "watch",
        (
            ("overview", "/", "o"),
            ("projects", "/projects", "p"),
            ("events", "/events", "e"),
            ("deliveries", "/deliveries", "v"),
        ),
    ),
    (
        "steer",
        (
            ("letters", "/dead-letters", "d"),
            ("subscriptions", "/subscriptions", "s"),
            ("scheduled", "/scheduled", "h"),
            ("workers", "/workers", "w"),
        ),
    ),
    ("look_up", (("audit", "/audit", "a"), ("api", "/api", "i"))),
)


@cache
def environment() -> Environment:
    """Return what renders the templates."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(formats.FILTERS)
    made.globals.update(link=formats.link, percent=formats.percent, languages=words.LANGUAGES, themes=THEMES)
    made.globals["m"] = made.get_template("macros.html").module
    return made


def render(visit: Visit, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page that a template makes of values."""
    language, request = visit.language, visit.request
    context = {
        "t": partial(words.say, language),
        "known": partial(words.has, language),
        "language": language,
        "theme": visit.theme,
        "who": visit.who,
        "may_act": visit.may_act,
        "needs_login": visit.house.access.tokens.are_set,
        "navigation": NAVIGATION,
        "here": request.url.path,
        "address": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "dead": _dead(visit),
    }
    html = environment().get_template(template).render(context | values)
    return HTMLResponse(html, status, headers={"Vary": "Cookie, Accept-Language"})


def _dead(visit: Visit) -> int:
    """Return how many dead letters waited when the bus was last looked at, for the navigation."""
    sample = visit.house.pulse.last if visit.who else None
    return sum(one.queue.dead for one in sample.subscribers) if sample else 0
