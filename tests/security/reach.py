"""Which commands of Redis a Lua script can come to, read from its text: its own, and those of the library's
functions that it can reach.

The library is a list of functions at the left margin; a function reaches those that it calls or gives away.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from itertools import pairwise

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '(CREATE|DELCONSUMER|CONSUMERS|GROUPS|STREAM)')?")
_NAME = re.compile(r"(?:pcall\()?\b([a-z_]\w*)(?=\s*[(,])")
_COMMENT = re.compile(r"--.*$", re.MULTILINE)


def commands_of(script: str) -> set[str]:
    """Return the commands of a script by name, lower case; of a container as `xgroup|create`."""
    functions, body = _library(), _text(script)
    found, seen, left = _calls(body), set(), _NAME.findall(body)
    while left:
        name = left.pop()
        if name in functions and name not in seen:
            seen.add(name)
            found |= _calls(functions[name])
            left += _NAME.findall(functions[name])
    return found


def _calls(text: str) -> set[str]:
    return {f"{name}|{sub}".rstrip("|").lower() for name, sub in _CALL.findall(text)}


@cache
def _library() -> dict[str, str]:
    text = _text("library")
    starts = [found.start() for found in re.finditer(r"^local function ", text, re.MULTILINE)] + [len(text)]
    chunks = [text[start:end] for start, end in pairwise(starts)]
    return {re.match(r"local function (\w+)", chunk)[1]: chunk for chunk in chunks}  # type: ignore[index]


def _text(name: str) -> str:
    return _COMMENT.sub("", (files("events") / "lua" / f"{name}.lua").read_text())
