"""What a page shows of a JSON document: its first values, in their order, and how many there are in all.

An event may hold a megabyte of small values, of which a browser would make a hundred thousand elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_VALUES = 500


@dataclass(frozen=True, slots=True)
class Node:
    """A value, with what is shown of the values in it.

    Attributes:
        key: its name in an object, its index in an array; None of a whole document.
        value: itself. size: how many values an object or an array holds. inner: the first of them.
    """

    key: str | int | None
    value: Any
    size: int
    inner: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """What is shown of a document.

    Attributes:
        root: the document. shown: how many values of it are shown. count: how many it has.
    """

    root: Node
    shown: int
    count: int

    @property
    def is_all(self) -> bool:
        return self.shown == self.count


def outlined(value: Any, most: int = MOST_VALUES) -> Outline:
    """Return a document with at most so many of its values, in their order.

    What is in a field of an object leaves room for the names of the fields after it, up to half of what there is.
    """
    root, shown = _node(None, value, most)
    return Outline(root, shown, shown if shown < most else _count(value))


def _node(key: str | int | None, value: Any, most: int) -> tuple[Node, int]:
    """Return a value as it is shown, and how many values in it are."""
    pairs, inner, shown = _pairs(value), [], 0
    for number, (name, each) in enumerate(pairs):
        if shown == most:
            break
        room = most - shown - 1
        later = min(len(pairs) - number - 1, room // 2) if isinstance(value, dict) else 0
        one, within = _node(name, each, room - later)
        inner.append(one)
        shown += 1 + within
    return Node(key, value, len(pairs), tuple(inner)), shown


def _pairs(value: Any) -> Sequence[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else ()


def _count(value: Any) -> int:
    return sum(1 + _count(each) for _, each in _pairs(value))
