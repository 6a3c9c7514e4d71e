"""The string that names a value of the blackboard, and fits into an event's `blackboard_pointer`.

    bb:P-1/scenes/3@7      version 7 of key `scenes/3` of project `P-1`
    bb:P-1/scenes/3        its newest version

The first `/` ends the project and the last `@` the key. In a project `%`, `/` and `@` are written `%25`, `%2F` and
`%40`; in a key `%` and `@` are. Nothing else is escaped, so that a pointer is as short as it can be: an event's
names have at most 200 characters. Reading accepts what writing gives and no other spelling: two pointers are
the same exactly when they name the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from events.errors import InvalidValue
from events.event import MAX_NAME_CHARS

SCHEME = "bb:"
_BIGGEST = 2**63 - 1
# What "@" and any version need.
_VERSION_CHARS = 20
_PARTS = re.compile(r"bb:([^/@]+)/([^@]+)(?:@([1-9][0-9]{0,18}))?")
_ESCAPE = re.compile(r"%(?!25|2F|40)")


@dataclass(frozen=True, slots=True)
class Pointer:
    """A project's key, and one version of it.

    Attributes:
        project_id: 1 or more printable characters. key: likewise; `/` may order keys like a path.
        version: 1 for the first; None is the newest.

    Raises:
        InvalidValue: empty, not printable, or too long for a pointer.
    """

    project_id: str
    key: str
    version: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("project_id", self.project_id), ("key", self.key)):
            if not isinstance(value, str) or not value or not value.isprintable():
                raise InvalidValue(
                    f"The {name} of a value must be one or more printable characters, not {value!r:.80}."
                )
        if self.version is not None and not (isinstance(self.version, int) and 1 <= self.version <= _BIGGEST):
            raise InvalidValue(f"A version must be a whole number of at least 1, not {self.version!r:.40}.")
        room, used = MAX_NAME_CHARS - _VERSION_CHARS, len(self._unversioned())
        if used > room:
            raise InvalidValue(
                f"The pointer to key {self.key[:40]!r} of project {self.project_id[:40]!r} has {used} characters "
                f"before its version; an event has room for {room}: use a shorter key."
            )

    def __str__(self) -> str:
        """Write the pointer."""
        return self._unversioned() if self.version is None else f"{self._unversioned()}@{self.version}"

    @staticmethod
    def read(text: str) -> Pointer:
        """Read a pointer.

        Raises:
            InvalidValue: it is not one.
        """
        found = _PARTS.fullmatch(text) if isinstance(text, str) else None
        if found is None or _ESCAPE.search(text) or "%2F" in found[2]:
            raise InvalidValue(f"{text!r:.240} is not a pointer into the blackboard: they read bb:PROJECT/KEY@VERSION.")
        version = int(found[3]) if found[3] else None
        return Pointer(_unescaped(found[1]), _unescaped(found[2]), version)

    def _unversioned(self) -> str:
        project_id = self.project_id.replace("%", "%25").replace("/", "%2F").replace("@", "%40")
        return f"{SCHEME}{project_id}/{self.key.replace('%', '%25').replace('@', '%40')}"


def _unescaped(text: str) -> str:
    return text.replace("%2F", "/").replace("%40", "@").replace("%25", "%")
