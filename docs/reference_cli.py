"""The command line as Markdown, from the commands themselves: what they are given, and what their docstrings say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from console.exits import CODES
from console.main import app


def page() -> tuple[str, str, str]:
    """Return title, introduction and text of the reference of all commands."""
    top: Any = get_command(app)
    commands = [(name, command) for name, command in _flat(top) if not getattr(command, "commands", None)]
    listed = "\n".join(f"- [{name}](#{_anchor(name)}): {_summary(command)}" for name, command in commands)
    about = (
        "Every command of `eventbus`, as `--help` tells it. Options come after the command, in any order; moments are "
        "ISO 8601 or a span before now (`90s`, `15m`, `24h`, `7d`). With `--json` what may be long is one JSON object "
        "a line, and no line where there is nothing; what is one picture of one moment is one array (`subscriptions "
        "list`, `workers list`, `schedules list`) or one object. Its moments are ISO 8601 in UTC, with `Z`."
    )
    body = [listed, "## Exit codes", f"```text\n{inspect.cleandoc(CODES).replace(chr(8), '').strip()}\n```"]
    body += [part for name, command in commands for part in _command(name, command)]
    return "The command line", about, "\n\n".join(body)


def _flat(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        full = f"{before} {name}".strip()
        yield full, command
        if getattr(command, "commands", None):
            yield from _flat(command, full)


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}"
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    shown = " ".join(_named(one) for one in arguments)
    yield f"```text\n{f'eventbus {name} {shown}'.strip()}{' [OPTIONS]' if options else ''}\n```"
    yield from _help(command.help)
    if told := [f"| `{_in_cell(_named(one))}` | {_cell(one.help or '')} |" for one in arguments]:
        yield "\n".join(["| argument | |", "| --- | --- |", *told])
    if told := [f"| {_spelled(one)} | {_cell(one.help or '')} | {_default(one)} |" for one in options]:
        yield "\n".join(["| option | | default |", "| --- | --- | --- |", *told])


def _help(text: str | None) -> Iterator[str]:
    """Yield the paragraphs of a command's help; what `\\b` keeps as it is becomes a block."""
    for block in re.split(r"\n{2,}", inspect.cleandoc(text or "")):
        if block.startswith("\b"):
            lines = block.lstrip("\b\n").splitlines()
            head = lines.pop(0) if lines and not lines[0].startswith("  ") else ""
            yield "\n\n".join(
                part for part in (head, "```text\n" + inspect.cleandoc("\n" + "\n".join(lines)) + "\n```") if part
            )
        else:
            yield _escaped(" ".join(block.split()))


def _summary(command: Any) -> str:
    return _escaped(" ".join(re.split(r"\n{2,}", inspect.cleandoc(command.help or ""))[0].split()))


def _named(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    many = " ..." if argument.nargs == -1 else ""
    return f"{name}{many}" if argument.required else f"[{name}]{many}"


def _spelled(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    return _in_cell(", ".join(f"`{name}{value}`" for name in names))


def _kind(option: Any) -> str:
    return {"integer": "N", "integer range": "N", "float": "N", "float range": "N"}.get(option.type.name, "TEXT")


def _default(option: Any) -> str:
    if isinstance(option.show_default, str):
        return _cell(option.show_default)
    is_said = option.default not in (None, False, "") and not callable(option.default) and option.default != []
    return f"`{option.default}`" if is_said and not option.is_flag else ""


def _cell(text: str) -> str:
    return _in_cell(_escaped(" ".join(text.split())))


def _in_cell(text: str) -> str:
    """Return a text whose bars end no cell of a table."""
    return text.replace("|", r"\|")


def _escaped(text: str) -> str:
    return "".join(
        part if at % 2 else part.replace("<", "&lt;") for at, part in enumerate(re.split(r"(`[^`]*`)", text))
    )


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")
