"""Coming and going: a token for a cookie, the cookie ended, and the colours and the language that somebody likes."""

from __future__ import annotations

import logging
import math
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse, Response

from console.web.access import COOKIE, SESSION_S, Who, clean_name
from console.web.pages import words
from console.web.pages.rendering import render
from console.web.pages.visit import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Page, Visit
from console.web.problems import refused

YEAR_S = 31_536_000
log = logging.getLogger("eventbus.web")


async def show(visit: Visit) -> Response:
    """Show the form; without tokens there is nothing to log in to."""
    if not visit.house.access.tokens.are_set:
        return RedirectResponse("/", 303)
    return render(visit, "login.html", to=_inside(visit.one("to")), name="", wrong="")


async def log_in(visit: Visit) -> Response:
    """Give a cookie for a token, and go where somebody wanted to go."""
    form, access = await _form(visit), visit.house.access
    name, to = clean_name(form.get("name", "").strip()), _inside(form.get("to", ""))
    deaf_s = access.deaf_s(visit.request)
    role = access.role_of(form.get("token", "").strip(), visit.request)
    if role is None:
        client = visit.request.client
        address = client.host if client else "an unknown address"
        log.warning("Somebody at %s named a token that is none of ours.", address)
        return _wrong(visit, name, to, deaf_s)
    answer = RedirectResponse(to, 303)
    _keep(visit, answer, COOKIE, access.session(Who(name or "console", role)), SESSION_S)
    return answer


def _wrong(visit: Visit, name: str, to: str, deaf_s: float) -> Response:
    """Show the form again, and why: the token is none of ours, or was not looked at."""
    if not deaf_s:
        return render(visit, "login.html", 401, to=to, name=name, wrong=words.say(visit.language, "login.wrong"))
    wrong = words.say(visit.language, "login.deaf", count=math.ceil(deaf_s / 60))
    answer = render(visit, "login.html", 429, to=to, name=name, wrong=wrong)
    answer.headers["Retry-After"] = str(math.ceil(deaf_s))
    return answer


async def log_out(visit: Visit) -> Response:
    """End the cookie."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


async def prefer(visit: Visit) -> Response:
    """Remember colours and language."""
    form = await _form(visit)
    answer = RedirectResponse(_inside(form.get("to", "")), 303)
    for name, cookie, known in (("theme", THEME_COOKIE, THEMES), ("language", LANGUAGE_COOKIE, words.LANGUAGES)):
        if form.get(name) in known:
            _keep(visit, answer, cookie, form[name], YEAR_S)
    return answer


def _keep(visit: Visit, answer: Response, name: str, value: str, age_s: int) -> None:
    is_secure = visit.request.url.scheme == "https"
    answer.set_cookie(name, value, max_age=age_s, path="/", httponly=True, samesite="lax", secure=is_secure)


async def _form(visit: Visit) -> dict[str, str]:
    """Return the fields of a form as browsers send it.

    Raises:
        HTTPException: it cannot be read.
    """
    try:
        found = parse_qs((await visit.request.body()).decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise refused(400, "The form cannot be read: send it as application/x-www-form-urlencoded.") from None
    return {name: values[0] for name, values in found.items()}


def _inside(path: str) -> str:
    """Return a path of this console; its beginning when the path leads elsewhere."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


PAGES = (
    Page(path="/login", call=show, needs_nobody=True),
    Page(path="/login", call=log_in, needs_nobody=True, methods=("POST",)),
    Page(path="/logout", call=log_out, needs_nobody=True, methods=("POST",)),
    Page(path="/preferences", call=prefer, needs_nobody=True, methods=("POST",)),
)
