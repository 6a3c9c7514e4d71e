"""Docstrings as Markdown: signature, summary, and the sections Args, Returns, Raises, Attributes, Guarantee, Source.

An item of a section is `name: text`, and another may follow its full stop; lines that are indented further belong
to it. Dataclasses
and models are shown by their fields, each with its type and default, everything else by its signature.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

import events.errors
from events.settings import Settings, variable

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Guarantee", "Source")
ITEMS = ("Args", "Attributes", "Raises")
MAX_LINE = 100
_SECTION = re.compile(rf"({'|'.join(SECTIONS)}):(?: +(.*))?\Z")
_ITEM = re.compile(r"([A-Za-z_*][\w*, ]*): +(.*)\Z")
_TWO = re.compile(r"(?<=[.;]) (?=[a-z_]{2,}: )")
_ERRORS = {
    name
    for name, value in vars(events.errors).items()
    if inspect.isclass(value) and issubclass(value, events.errors.EventBusError)
}


class Thin(Exception):
    """A public name has no docstring, or a field of it no line."""


@dataclasses.dataclass(slots=True)
class Doc:
    """A docstring taken apart.

    Attributes:
        text: what comes before the sections.
        sections: the text of each section, in the docstring's order.
    """

    text: str
    sections: dict[str, str]

    @classmethod
    def of(cls, owner: Any, name: str) -> Doc:
        """Read a docstring; an inherited one counts only for what is overridden without a word."""
        raw = inspect.getdoc(owner)
        if not raw or (inspect.isclass(owner) and not owner.__dict__.get("__doc__")):
            raise Thin(f"{name} has no docstring.")
        parts: dict[str, list[str]] = {"": []}
        at = ""
        for line in raw.splitlines():
            if opened := _SECTION.match(line):
                at = opened[1]
                parts[at] = [opened[2]] if opened[2] else []
            else:
                parts[at].append(line)
        return cls(_prose(parts.pop("")), {at: inspect.cleandoc("\n".join(["", *part])) for at, part in parts.items()})

    def items(self, section: str) -> dict[str, str]:
        """Return the items of a section by name; `a, b: text` is one item of both."""
        found: dict[str, str] = {}
        name = ""
        for line in _TWO.sub("\n", self.sections.get(section, "")).splitlines():
            if (opened := _ITEM.match(line)) and not line.startswith(" "):
                name = opened[1]
                found[name] = opened[2]
            elif name and (line.startswith(" ") or section != "Raises"):
                found[name] += " " + line.strip()
            else:
                name = line.strip().rstrip(".")
                found[name] = ""
        return found


def entries(named: Iterable[tuple[str, Any]]) -> str:
    """Return the entries of a page: a list of its names, and a section for each."""
    given = list(named)
    toc = " · ".join(f"[{label(owner)}](#{anchor(label(owner))})" for _, owner in given)
    return "\n\n".join([toc, *(_entry(module, owner) for module, owner in given)])


def label(owner: Any) -> str:
    """Name a function as its users do: `outbox.add`, not `add`."""
    module = owner.__module__.rpartition(".")[2]
    return f"{module}.{owner.__name__}" if module in ("outbox", "inbox") else owner.__name__


def anchor(heading: str) -> str:
    """Return the fragment that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def settings_page() -> tuple[str, str, str]:
    """Return title, introduction and table of all settings."""
    told = Doc.of(Settings, "Settings").items("Attributes")
    rows = ["| variable | field | default | what it does |", "| --- | --- | --- | --- |"]
    for one in dataclasses.fields(Settings):
        _, _, text = told[one.name].partition(", ")
        text = re.sub(r" Default (?:`[^`]*`|\d+)\.", "", text).replace(" Default None: ", " By default ").strip()
        text = re.sub(r" Default \d+; (\w)", lambda found: f" {found[1].upper()}", text)
        default = "" if one.default is None else f"`{_plain(one.default)}`"
        rows.append(f"| `{variable(one.name)}` | `{one.name}` | {default} | {_cell(text)} |")
    about = (
        "Read from the environment, once, by [events/settings.py](../../events/settings.py). Sizes are bytes, times "
        'are seconds. In code: `EventBus(Settings(namespace="films"))`, or `settings.with_(lease_s=30)`.'
    )
    methods = "\n\n".join(_member(Settings, name) for name in ("from_env", "with_"))
    return "Settings", about, "\n".join(rows) + "\n\n" + methods


def errors_page() -> tuple[str, str, str]:
    """Return title, introduction and text of the error tree."""
    drawn = inspect.getdoc(events.errors) or ""
    tree = "\n".join(line[4:] for line in drawn.splitlines() if line.startswith("    "))
    classes = [vars(events.errors)[name] for name in vars(events.errors) if name in _ERRORS]
    about = (
        "Every exception that leaves this project: `from events.errors import ...`. Each message is a sentence that "
        "says what was wrong, with which value, and what to do. `Retry`, `Discard` and `TimeLimitExceeded` are a "
        "handler's own: [Subscribers](subscribers.md)."
    )
    body = [f"```text\n{tree}\n```", *(_entry("events.errors", one) for one in classes)]
    return "Errors", about, "\n\n".join(body)


def _entry(module: str, owner: Any) -> str:
    path = f"{module.replace('.', '/')}.py"
    name = label(owner)
    parts = [f"## {name}", f"[{path}](../../{path})"]
    if inspect.isclass(owner):
        parts += _class(owner)
    else:
        function = getattr(owner, "_fixture_function", None) or inspect.unwrap(owner)
        parts += [_signature(name, function), *_told(Doc.of(function, name))]
    return "\n\n".join(parts)


def _class(owner: type) -> Iterator[str]:
    doc = Doc.of(owner, owner.__name__)
    if issubclass(owner, enum.Enum):
        yield doc.text
        yield " ".join(f"`{member.value}`" for member in owner)
        return
    if fields := list(_fields(owner)):
        yield doc.text
        yield _fields_told(owner, fields)
        yield from _told(Doc("", {k: v for k, v in doc.sections.items() if k not in ("Args", "Attributes")}))
    else:
        if owner.__init__ is not object.__init__ and (not issubclass(owner, BaseException) or "Args" in doc.sections):  # type: ignore[misc]
            yield _signature(owner.__name__, owner.__init__, skips=1)  # type: ignore[misc]
        yield from _told(doc)
    yield from (_member(owner, name) for name in _members(owner))


def _members(owner: type) -> list[str]:
    """Return the public methods and properties of a class, in the order of its bases' and its own definitions."""
    is_error = issubclass(owner, BaseException)
    ours = [cls for cls in owner.__mro__ if cls.__module__.split(".")[0] in ("events", "store", "workers")]
    names = [name for cls in ours for name, value in vars(cls).items() if _is_shown(value) and not name.startswith("_")]
    if owner.__name__ == "TestBus":  # the bus's own are on the bus's page
        names = [name for name in vars(owner) if _is_shown(vars(owner)[name]) and not name.startswith("_")]
    return [] if is_error else list(dict.fromkeys(names))


def _is_shown(value: Any) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)


def _member(owner: type, name: str) -> str:
    value = inspect.getattr_static(owner, name)
    full = f"{owner.__name__}.{name}"
    if isinstance(value, property):
        kind = (value.fget.__annotations__ if value.fget else {}).get("return", "")
        return "\n\n".join([f"### {full}", f"```text\n{name}: {kind}\n```", *_told(Doc.of(value, full))])
    function = getattr(value, "__func__", value)
    skips = 0 if isinstance(value, staticmethod) else 1
    return "\n\n".join([f"### {full}", _signature(name, function, skips), *_told(Doc.of(function, full))])


def _fields(owner: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and default of the fields of a dataclass, named tuple or model."""
    if issubclass(owner, BaseModel):
        kinds = {
            name: kind for cls in reversed(owner.__mro__) for name, kind in vars(cls).get("__annotations__", {}).items()
        }
        for name, one in owner.model_fields.items():
            yield name, str(kinds[name]), "" if one.is_required() else _made(one.default_factory, one.default)
    elif dataclasses.is_dataclass(owner):
        for each in dataclasses.fields(owner):
            is_needed = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            yield each.name, str(each.type), "" if is_needed else _made(each.default_factory, each.default)
    elif issubclass(owner, tuple):
        kinds, defaults = vars(owner)["__annotations__"], vars(owner)["_field_defaults"]
        for name in vars(owner)["_fields"]:
            yield name, kinds[name].__forward_arg__, repr(defaults[name]) if name in defaults else ""


def _made(factory: Any, default: Any) -> str:
    return repr(default) if factory in (None, dataclasses.MISSING) else "..."


def _fields_told(owner: type, fields: list[tuple[str, str, str]]) -> str:
    told: dict[str, str] = {}
    for cls in reversed(owner.__mro__):
        if cls.__doc__ and cls.__module__.split(".")[0] in ("events", "store"):
            doc = Doc.of(cls, cls.__name__)
            told |= doc.items("Attributes") | doc.items("Args")
    lines = []
    for name, kind, default in fields:
        text = next((text for names, text in told.items() if name in re.split(r", ?", names)), None)
        if text is None:
            raise Thin(f"{owner.__name__}.{name} is explained in no Attributes or Args of its docstring.")
        shown = f"{name}: {kind}" + (f" = {default}" if default else "")
        lines.append(f"- `{shown}`: {_inline(text)}")
    return "\n".join(lines)


def _told(doc: Doc) -> Iterator[str]:
    if doc.text:
        yield doc.text
    for section in doc.sections:
        if section in ITEMS:
            lines = [
                f"- {_item(section, name)}" + (f": {_inline(text)}" if text else "")
                for name, text in doc.items(section).items()
            ]
            yield f"**{section}**\n\n" + "\n".join(lines)
        else:
            yield f"**{section}**: {_inline(doc.sections[section])}"


def _item(section: str, name: str) -> str:
    if section != "Raises":
        return ", ".join(f"`{one}`" for one in re.split(r", ?", name))
    words = re.split(r"(\w+)", name)
    return "".join(f"[{word}](errors.md#{anchor(word)})" if word in _ERRORS else word for word in words)


def _signature(name: str, function: Callable[..., Any], skips: int = 0) -> str:
    """Return a call's form as it is written, in one line or one parameter a line."""
    signature = inspect.signature(function)
    if skips == 1 and list(signature.parameters)[:1] not in (["self"], ["cls"]):
        skips = 0
    parameters = list(signature.parameters.values())[skips:]
    shown = [_parameter(one) for one in parameters]
    for index, one in reversed(list(enumerate(parameters))):
        is_first = one.kind is one.KEYWORD_ONLY and (
            index == 0 or parameters[index - 1].kind not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        )
        if is_first:
            shown.insert(index, "*")
    given = signature.return_annotation
    returns = "" if given in (signature.empty, "None") or name[0].isupper() else f" -> {given}"
    prefix = (
        "async "
        if inspect.iscoroutinefunction(function)
        else "async for "
        if inspect.isasyncgenfunction(function)
        else ""
    )
    line = f"{prefix}{name}({', '.join(shown)}){returns}"
    if len(line) > MAX_LINE:
        line = f"{prefix}{name}(\n" + "".join(f"    {one},\n" for one in shown) + f"){returns}"
    return f"```text\n{line}\n```"


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    kind = "" if one.annotation is one.empty else f": {one.annotation}"
    default = "" if one.default is one.empty else f"{' = ' if kind else '='}{_plain_repr(one.default)}"
    return f"{stars}{one.name}{kind}{default}"


def _plain_repr(value: Any) -> str:
    return "inf" if value == float("inf") else repr(value)


def _plain(value: object) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float) and value < 1e5
        else str(int(value))
        if isinstance(value, float)
        else str(value)
    )


def _cell(text: str) -> str:
    return _inline(text).replace("|", r"\|")


def _inline(text: str) -> str:
    """Join lines, and keep what looks like HTML outside of code from being taken for it."""
    joined = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(
        part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(re.split(r"(`[^`]*`)", joined))
    )


def _prose(lines: list[str]) -> str:
    """Join the lines of each paragraph; indented ones are a literal block."""
    blocks: list[str] = []
    for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
        blocks.append(block if block.startswith("    ") else _inline(block))
    return "\n\n".join(block for block in blocks if block)
