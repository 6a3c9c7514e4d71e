"""The namespace's epoch: which life of Redis this process believes in.

    absent ── first use, store empty and nothing subscribed ──> living(e1)
    living(e1) ── FLUSHALL, empty replica ──> absent ── a process with the registry declares ──> living(e2)

Invariant: nobody publishes into a namespace whose routes are gone. A script compares the caller's
epoch before its first write and answers EPOCH; a new epoch is born in the same step as the routes
of every subscriber that the store remembers, and with a clock that is not behind the store.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from events.connection import Client
from events.errors import HistoryReset
from events.kept import kept
from events.keys import Keys
from events.scripts import Argument, Scripts


@dataclass(frozen=True, slots=True)
class Declared:
    """A subscriber as it is declared.

    Attributes:
        types: names of event types. options: what its code says of the record, as strings.
        steering: what else a record begins with that is not there yet: what operators have set, and
            where a back-fill begins.
    """

    name: str
    types: tuple[str, ...]
    options: Mapping[str, str]
    steering: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the store knows of the namespace: its highest position and its subscribers."""

    highest_position: int
    subscribers: Sequence[Declared]

    @property
    def is_new(self) -> bool:
        return self.highest_position == 0 and not self.subscribers


class Namespace:
    """One namespace on one client; calls its scripts with the epoch, and opens it when need be.

    Args:
        client: where it lives.
        name: the namespace.
        remembered: asks the store; called only when Redis has no epoch.
        may_restore: this process declares a lost namespace anew (workers, archivers); others wait
            `reset_wait_s` for one that does.
        texts: scripts' sources, for tests.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        remembered: Callable[[], Remembered],
        *,
        may_restore: bool = False,
        reset_wait_s: float = 10.0,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self.client = client
        self.keys = Keys(name)
        self.scripts = Scripts(client, self.keys, texts)
        self.may_restore = may_restore
        self.resets = 0
        self._remembered = remembered
        self._reset_wait_s = reset_wait_s
        self._epoch = ""
        self._lock = threading.Lock()

    def call(self, name: str, *arguments: Argument) -> Any:
        """Run a script under the current epoch; open the namespace anew when Redis lost it.

        Raises:
            HistoryReset: when the epoch is gone and nobody declared it again in time.
            RedisUnavailable, ScriptFailed: as `Scripts.call`.
        """
        for _ in range(3):
            epoch = self._epoch or self.open()
            reply = self.scripts.call(name, [epoch, *arguments])
            if reply != b"EPOCH":
                return reply
            with self._lock:
                if self._epoch == epoch:
                    self._epoch = ""
        raise HistoryReset(
            f"The namespace {self.keys.namespace!r} is being reset again and again; look for who flushes Redis."
        )

    @property
    def is_open(self) -> bool:
        """Whether this process knows the epoch."""
        return bool(self._epoch)

    def command(self, name: str, *arguments: Argument) -> tuple[Argument, ...]:
        """Return the command by which a script runs under the epoch that is known; the namespace is open."""
        return self.scripts.command(name, [self._epoch, *arguments])

    def forget(self) -> None:
        """Doubt the epoch: the next call looks again."""
        with self._lock:
            self._epoch = ""

    def open(self) -> str:
        """Return the epoch, beginning the first one or restoring a lost one where that is allowed."""
        with self._lock:
            if self._epoch:
                return self._epoch
            deadline = time.monotonic() + self._reset_wait_s
            while True:
                epoch = self._look()
                if epoch:
                    self._epoch = epoch
                    self.resets += 1
                    return epoch
                if time.monotonic() >= deadline:
                    raise HistoryReset(
                        f"Redis has lost the namespace {self.keys.namespace!r} (FLUSHALL, or an empty replica took "
                        f"over) and no worker declared it again within {self._reset_wait_s:g} s. Nothing was "
                        "published. Start a worker, then publish again."
                    )
                time.sleep(0.05)

    def _look(self) -> str:
        found: bytes = self.scripts.call("open", [""])
        if found:
            with kept(self.keys("meta")):
                return found.decode()
        remembered = self._remembered()
        if not (remembered.is_new or self.may_restore):
            return ""
        arguments: list[Argument] = [secrets.token_hex(8), remembered.highest_position]
        for declared in remembered.subscribers:
            fields = [part for pair in {**declared.options, **declared.steering}.items() for part in pair]
            arguments += [declared.name, len(declared.types), *declared.types, len(fields), *fields]
        begun: bytes = self.scripts.call("open", arguments)
        return begun.decode()
