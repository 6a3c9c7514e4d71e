"""One visit to a page: who comes, in which language, and what he may do. A page asks the API's operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from console.web.access import Role, Who
from console.web.operations import Asked, House, checked
from console.web.pages import words

T = TypeVar("T")
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "eventbus_theme"
LANGUAGE_COOKIE = "eventbus_language"
MOST_NAMES = 500


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page.

    Attributes:
        house: what all requests share. who: who comes; None on pages that need nobody.
    """

    house: House
    request: Request
    who: Who | None

    @property
    def language(self) -> str:
        """The language to speak."""
        headers, cookies = self.request.headers, self.request.cookies
        return words.negotiated(cookies.get(LANGUAGE_COOKIE), headers.get("accept-language", ""))

    @property
    def theme(self) -> str:
        """The colours to show: `auto` follows the system."""
        chosen = self.request.cookies.get(THEME_COOKIE)
        return chosen if chosen in THEMES else THEMES[0]

    @property
    def may_act(self) -> bool:
        """Whether buttons that change something are shown."""
        return self.who is not None and self.who.role >= Role.OPERATOR

    @property
    def subscribers(self) -> list[str]:
        """The names of subscribers when the bus was last looked at, to choose from: at most `MOST_NAMES`."""
        sample = self.house.pulse.last
        return [one.queue.subscriber for one in sample.subscribers[:MOST_NAMES]] if sample else []

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that say something; a form sends its empty fields too. Repeated ones are lists."""
        found: dict[str, Any] = {}
        for name in self.request.query_params:
            values = [value for value in self.request.query_params.getlist(name) if value.strip()]
            if values:
                found[name] = values if len(values) > 1 else values[0]
        return found

    def split(self, *names: str) -> dict[str, Any]:
        """Return the parameters that say something, some of them split at commas, as a form shows several together."""
        found = self.given
        for name in names:
            values = found.get(name, ())
            texts = values if isinstance(values, list) else [values] if values else []
            parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
            if parts:
                found[name] = parts if len(parts) > 1 else parts[0]
            else:
                found.pop(name, None)
        return found

    def one(self, name: str) -> str:
        """Return a parameter's value, the first if there are several; empty when it is not given."""
        found = self.given.get(name, "")
        return str(found[0] if isinstance(found, list) else found)

    async def ask(self, call: Callable[[Asked], Awaitable[T]], query: BaseModel | None = None, **path: str) -> T:
        """Return what an operation of the API answers."""
        assert self.who is not None
        return await call(Asked(self.house, self.request, self.who, query, path))


def question(model: type[BaseModel], given: Mapping[str, Any]) -> Any:
    """Return what a form asks, as an operation's parameters; what the model does not know is the page's own.

    Raises:
        Mistake: a value cannot be read.
    """
    known: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name in given:
            value = given[name]
            is_list = "list" in str(field.annotation)
            if is_list:
                known[name] = value if isinstance(value, list) else [value]
            else:
                known[name] = value[0] if isinstance(value, list) else value
    return checked(model, known, "field")


Call = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page.

    Attributes:
        path: of its requests. call: answers one. needs_nobody: whether it is shown to everybody.
        methods: of its requests.
    """

    path: str
    call: Call
    needs_nobody: bool = False
    methods: tuple[str, ...] = ("GET",)
