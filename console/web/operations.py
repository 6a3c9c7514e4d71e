"""One HTTP operation: what it is asked with, what it answers, who may ask.

Declared once: what serves a request and what documents it read the same declaration.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from console.exits import Mistake
from console.web.access import Access, Role, Who
from console.web.compressing import compressed
from console.web.problems import refused
from store.rows import is_storable

if TYPE_CHECKING:
    from console.web.audit import AuditLog
    from console.web.live.feed import Feed
    from console.web.live.pulse import Pulse
    from console.web.live.sse import Streams
    from console.web.reading import Reading
    from events.backend import Backend
    from events.bus import EventBus

T = TypeVar("T")
JSON = "application/json"
PREFIX = "/api/v1"
NOT_HIS = 403
"""The status of what somebody may not do."""


@dataclass(frozen=True, slots=True)
class House:
    """What the operations of one web process share.

    Attributes:
        bus: publishes, and asks. access: tells who asks. audit: keeps what was done. reading: runs what blocks.
        feed: the newest events. pulse: how the bus stands. streams: counts who follows either.
    """

    bus: EventBus
    access: Access
    audit: AuditLog
    reading: Reading
    feed: Feed
    pulse: Pulse
    streams: Streams

    @property
    def backend(self) -> Backend:
        """The servers; its reads block."""
        return self.bus.backend


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read and allowed.

    Attributes:
        house: what all requests share. who: who asks. query: its parameters, an instance of the operation's model.
        path: the parts of its path that vary, by name.
    """

    house: House
    request: Request
    who: Who
    query: Any
    path: Mapping[str, str]

    async def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            Mistake: it is none.
        """
        return read_json(await self.request.body())

    async def read(self, ask: Callable[[], T]) -> T:
        """Run what blocks, when it is its turn.

        Raises:
            Busy: it was not its turn for long enough.
        """
        return await self.house.reading.ask(ask)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means: a sentence, and the type of the JSON body, or types by media type; None is no body."""

    says: str
    schema: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API.

    Attributes:
        method, path: of its requests; `{name}` in a path is a part that varies.
        name: the operation's id. tag: its subject. summary, about: a line; more, or nothing.
        call: answers a request: a value that is sent as JSON, or a response.
        query: the model of its parameters. body: types that describe the body, by media type.
        headers: those that it reads besides, each with what it says.
        answers: what it answers with, by status, besides problems. needs: who may ask.
        refusals: statuses of problems beside those that every operation has.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    call: Callable[[Asked], Awaitable[Any]]
    about: str = ""
    query: type[BaseModel] | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[int, Answer] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    needs: Role = Role.READER

    async def serve(self, house: House, request: Request) -> Response:
        """Answer one request: allowed, read, done, and in the audit log if it changes something."""
        who = allowed(house.access, request)
        if who.role < self.needs:
            await house.audit.turned_away(who, self.name, request)
            raise refused(NOT_HIS, "A reader may not change anything: this needs the operator's token.")
        asked = Asked(house, request, who, read_query(self.query, request), request.path_params)
        if self.method == "GET":
            return await compressed(request, _response(await self.call(asked)))
        async with house.audit.entry(who, self.name, request) as entry:
            response = _response(await self.call(asked))
            entry.status = response.status_code
            return response


def allowed(access: Access, request: Request) -> Who:
    """Return who asks, if he may read; what else he may, his role says.

    Raises:
        HTTPException: 401 when he has not said who he is, 403 when nobody from there may ask, 429 when his address
            guesses tokens.
    """
    who = access.who(request)
    if who is None and "authorization" in request.headers and (wait_s := access.deaf_s(request)):
        raise guessed(wait_s)
    if who is None and not access.tokens.are_set:
        raise refused(
            403,
            "Without EVENTBUS_WEB_TOKEN only this machine is answered, by one of its own names (localhost, 127.0.0.1) "
            "and not through a proxy.",
        )
    if who is None:
        raise refused(
            401,
            "Name a token: `Authorization: Bearer ...`, or Basic with the token as the password.",
            {"WWW-Authenticate": 'Bearer realm="eventbus"'},
        )
    return who


def guessed(wait_s: float) -> HTTPException:
    """Return the refusal of an address that has named too many wrong tokens."""
    return refused(
        429,
        f"Too many different wrong tokens were named from your address: no token from there is looked at for "
        f"{wait_s:.0f} s more. A session that has begun goes on.",
        {"Retry-After": str(max(1, round(wait_s)))},
    )


def read_json(body: bytes) -> Any:
    """Return a body as JSON.

    Raises:
        Mistake: it is none, or holds numbers that JSON does not have.
    """
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Mistake(f"The body is not JSON: {error}.") from None


def read_query(model: type[BaseModel] | None, request: Request) -> Any:
    """Return a request's parameters as their model.

    Raises:
        Mistake: a parameter is unknown, repeated, or has a value that cannot be read.
    """
    known = {} if model is None else {each.alias or name: each for name, each in model.model_fields.items()}
    given: dict[str, Any] = {}
    for name in request.query_params:
        if name not in known:
            those = f"the parameters are {', '.join(known)}" if known else "it takes none"
            raise Mistake(f"There is no parameter {name!r:.80} here: {those}.")
        values = request.query_params.getlist(name)
        given[name] = values if _is_list(known[name].annotation) else _only(name, values)
    return None if model is None else checked(model, given, "parameter")


def checked(model: type[BaseModel], given: Any, what: str) -> Any:
    """Return what was given as a model.

    Args:
        what: names one of its fields to whoever reads the error.

    Raises:
        Mistake: naming each field that is wrong, with its value.
    """
    if not all(map(is_storable, _texts(given))):
        raise Mistake(f"A {what} holds U+0000 or a lone surrogate, which nothing here does.")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        said = [_choice(model, given, problem, what) or _sentence(problem, what) for problem in found]
        raise Mistake(" ".join(dict.fromkeys(said))) from None


def _texts(given: Any) -> Iterator[str]:
    """Iterate over every text in JSON, however deep."""
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        for name, value in given.items():
            yield from (name, *_texts(value))
    elif isinstance(given, list):
        for value in given:
            yield from _texts(value)


def _sentence(problem: Any, what: str) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "body"
    if problem["type"] == "missing":
        return f"The {what} {place!r:.80} is missing."
    if problem["type"] == "extra_forbidden":
        return f"There is no {what} {place!r:.80} here."
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return f"The {what} {place!r:.80} {message}, not {problem['input']!r:.120}."


def _choice(model: type[BaseModel], given: Any, problem: Any, what: str) -> str:
    """Return one sentence about a field that may be several things, and is none; pydantic has one for each."""
    name, *which = problem["loc"] or ("",)
    field = model.model_fields.get(str(name))
    is_choice = field is not None and get_origin(field.annotation) in (Union, UnionType)
    words = [_word(kind) for kind in get_args(field.annotation)] if field and which and is_choice else []
    if not all(words) or not words:
        return ""
    return f"The {what} {name!r:.80} must be {', '.join(words[:-1])} or {words[-1]}, not {given[name]!r:.120}."


def _word(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(json.dumps, get_args(kind)))
    return {int: "a whole number", float: "a number", str: "a text", NoneType: "null"}.get(kind, "")


def _only(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise Mistake(f"The parameter {name!r} is given {len(values)} times: it has one value.")
    return values[0]


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list


def json_response(value: Any, status: int = 200, media: str = JSON) -> Response:
    """Return a value as JSON."""
    return Response(to_json(value), status, media_type=media)


def _response(answer: Any) -> Response:
    return answer if isinstance(answer, Response) else json_response(answer)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
