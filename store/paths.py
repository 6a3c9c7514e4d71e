"""Places inside a payload or metadata, and what "equal" means there: one answer in Python, SQLite and PostgreSQL.

    scene.number     what is at the key `number` of what is at the key `scene`
    shots.0.title    of the first in a list, or at the key `0` of an object
    a\\.b             the key `a.b`: a backslash takes the next character as it is

Two scalars are equal when JSON writes the same value: true is not 1, null is not a missing key, text is equal
character by character, and numbers are the decimals they are written as, so 1 is 1.0 and 0.1 is nothing but 0.1.
That is jsonb's equality. SQLite rounds what it reads of JSON, and its paths cannot name every key: there
the question is asked of this module, by a function that `store.engine` gives every connection.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeGuard

from sqlalchemy import ColumnElement, Text, cast, func, literal
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from events.errors import InvalidFilter
from store.rows import is_storable

Scalar = str | int | float | bool | None
Path = tuple[str, ...]
Given = Mapping[Any, Scalar]

SQLITE_FUNCTION = "eventbus_holds"

_INDEX = re.compile(r"(?:0|[1-9][0-9]*)\Z")
# What PostgreSQL takes for a place in a list too: signs, leading zeros and white space.
_LIKE_AN_INDEX = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+\Z")
_TOO_LARGE = 10**1000
_MISSING = object()


def read_path(text: str) -> Path:
    """Split a dotted path into keys and places in lists.

    Raises:
        InvalidFilter: it ends with a backslash that takes nothing.
    """
    parts, part, characters = [], "", iter(text)
    for character in characters:
        if character == ".":
            parts.append(part)
            part = ""
        elif character == "\\":
            taken = next(characters, None)
            if taken is None:
                raise InvalidFilter(
                    f"The path {text!r:.200} ends with a backslash: write \\\\ for the character itself."
                )
            part += taken
        else:
            part += character
    return (*parts, part)


def conditions_of(name: str, given: Given) -> dict[Path, Scalar]:
    """Return what a filter asks of `payload` or `metadata`: at each path, the scalar that must be there.

    Args:
        name: of the filter's argument, for messages.
        given: by dotted path, or by a tuple of keys and places in lists, which may hold any character.

    Raises:
        InvalidFilter: naming the path or the value that cannot be asked for.
    """
    if not isinstance(given, Mapping):
        raise InvalidFilter(f"{name} must map paths to values, like {{'scene.number': 3}}, not {given!r:.80}.")
    found: dict[Path, Scalar] = {}
    for written, value in given.items():
        path = read_path(written) if isinstance(written, str) else _parts(name, written)
        for part in path:
            if not is_storable(part):
                raise InvalidFilter(f"The path {written!r:.200} of {name} holds U+0000 or a lone surrogate.")
        if path in found:
            raise InvalidFilter(f"The path {written!r:.200} is given twice in {name}: one value can be there.")
        found[path] = _scalar(name, written, value)
    return found


def holds(document: Any, path: Path, value: Scalar) -> bool:
    """Tell whether a scalar is at a path of a JSON document."""
    for part in path:
        if isinstance(document, dict):
            document = document.get(part, _MISSING)
        elif isinstance(document, list) and _INDEX.match(part) and len(part) < 10 and int(part) < len(document):
            document = document[int(part)]
        else:
            return False
    return _equal(document, value)


def sqlite_holds(document: str, path: str, value: str) -> bool:
    """Answer `holds` for SQLite: all three are JSON texts."""
    return holds(json.loads(document), *_asked(path, value))


def condition(column: ColumnElement[Any], path: Path, value: Scalar, dialect: str) -> ColumnElement[bool]:
    """Return the same condition on a column of JSON, in a dialect of SQL."""
    text = json.dumps(value, ensure_ascii=False)
    found: ColumnElement[bool]
    if dialect == "sqlite":
        found = getattr(func, SQLITE_FUNCTION)(column, json.dumps(path), text) == 1
        return found
    found = _at(column, path) == cast(literal(text, Text), JSONB)
    for depth, part in enumerate(path):
        if depth and _LIKE_AN_INDEX.match(part) and not _INDEX.match(part):
            found &= func.jsonb_typeof(_at(column, path[:depth])) == "object"
    return found


def _at(column: ColumnElement[Any], path: Path) -> ColumnElement[Any]:
    return column.op("#>")(cast(literal(list(path), ARRAY(Text)), ARRAY(Text)))


@lru_cache(maxsize=100)
def _asked(path: str, value: str) -> tuple[Path, Scalar]:
    return tuple(json.loads(path)), json.loads(value)


def _equal(found: Any, value: Scalar) -> bool:
    if type(found) is type(value):
        return bool(found == value)
    return _is_number(found) and _is_number(value) and _decimal(found) == _decimal(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimal(number: float) -> Decimal:
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number))


def _parts(name: str, path: object) -> Path:
    if not isinstance(path, tuple) or not path:
        raise InvalidFilter(f"A path of {name} is a text like 'scene.number' or a tuple of parts, not {path!r:.80}.")
    for part in path:
        if isinstance(part, bool) or not isinstance(part, str | int) or (isinstance(part, int) and part < 0):
            raise InvalidFilter(
                f"A part of a path of {name} is a key, or a place in a list from 0 on, not {part!r:.80} "
                f"in {path!r:.200}."
            )
    return tuple(map(str, path))


def _scalar(name: str, path: object, value: object) -> Scalar:
    """Return the value as one of JSON's own scalars; members of enums become what they stand for."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            value = kind.__str__(value) if kind is str else kind(value)
            break
    else:
        raise InvalidFilter(
            f"{name} can be asked for a text, a number, true, false or null at {path!r:.200}, not for {value!r:.80}."
        )
    if isinstance(value, str) and not is_storable(value):
        raise InvalidFilter(f"The text asked for at {path!r:.200} of {name} holds U+0000 or a lone surrogate.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidFilter(f"The number asked for at {path!r:.200} of {name} is {value}, which JSON does not have.")
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise InvalidFilter(f"The number asked for at {path!r:.200} of {name} has more than 1,000 digits.")
    return value
