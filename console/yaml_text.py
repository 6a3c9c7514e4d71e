"""Writes YAML: what JSON can say, in block style. It reads nothing.

Strings are always quoted, so that none is taken for a number, a date or a truth value. Source: YAML 1.2; readers of
1.1 find the same in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NOT_KEYS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_EXPONENT = re.compile(r"\A(-?\d+)(e[+-]?\d+)\Z")


def to_yaml(value: Any) -> str:
    """Return a JSON value as a YAML document.

    Raises:
        TypeError: JSON has nothing for it.
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            nested = isinstance(item, dict | list) and item
            first = f"{_key(key)}:"
            if nested:
                yield first
                yield from (f"  {line}" for line in _lines(item))
            else:
                yield f"{first} {_scalar(item)}"
    elif isinstance(value, list) and value:
        for item in value:
            lines = _lines(item)
            yield f"- {next(lines)}"
            yield from (f"  {line}" for line in lines)
    else:
        yield _scalar(value)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.match(key) and key.lower() not in _NOT_KEYS else _scalar(key)


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return _EXPONENT.sub(r"\1.0\2", text)  # 1e+16 is a string to readers of YAML 1.1
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)
