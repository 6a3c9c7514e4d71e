"""Subscribers whose keys in Redis are damaged: left out, so that those beside them in a process go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from events.errors import ScriptFailed

Reply = TypeVar("Reply")

log = logging.getLogger("eventbus.receiver")


class Damage:
    """Who is left out of one question that is asked of Redis for all subscribers of a process at once.

    Args:
        without: what a subscriber that is left out goes without, for the log.
    """

    def __init__(self, without: str) -> None:
        self._without = without
        self._why: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._why

    def names(self) -> frozenset[str]:
        """Return who is left out now."""
        return frozenset(self._why)

    def ask(self, names: Sequence[str], question: Callable[[list[str]], Reply], *, again: bool) -> list[Reply]:
        """Ask for all sound ones at once; when Redis refuses that, for each alone, to find whom it refuses.

        Args:
            again: ask for each of those left out, too.

        Returns:
            A reply for each time that it was asked and answered.

        Raises:
            ScriptFailed: the fault is no subscriber's: it passes, the namespace is gone, or nobody is answered.
        """
        damaged = [name for name in names if name in self]
        sound = [name for name in names if name not in self]
        try:
            replies = [question(sound)]
        except ScriptFailed as error:
            if _is_everybodys(error):
                raise
            replies = [question([])]
            damaged += sound
            again = True
        return replies + (list(self._each(damaged, question)) if again else [])

    def _each(self, names: Iterable[str], question: Callable[[list[str]], Reply]) -> Iterable[Reply]:
        for name in names:
            try:
                yield question([name])
            except ScriptFailed as error:
                if _is_everybodys(error):
                    raise
                self._leave_out(name, str(error))
            else:
                if self._why.pop(name, None) is not None:
                    log.info("The keys of the subscriber %s are sound again.", name)

    def _leave_out(self, name: str, why: str) -> None:
        if self._why.get(name) != why:
            log.error("The subscriber %s goes without %s until its keys are mended: %s", name, self._without, why)
            self._why[name] = why


def _is_everybodys(error: ScriptFailed) -> bool:
    return error.passes or error.code == "NOGROUP"
