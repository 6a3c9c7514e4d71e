"""What the demo shows while it runs: a line per agent on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from console import wording
from console.printing import console

if TYPE_CHECKING:
    from rich.table import Table

    from events.inspection import Queue
    from events.records import RecordedEvent

LINE_EVERY_S = 1.0


@dataclass(slots=True)
class Agent:
    """How one agent stands."""

    waiting: int = 0
    running: int = 0
    delivered: int = 0
    cost: float = 0.0
    retries: int = 0

    @property
    def done(self) -> int:
        return max(0, self.delivered - self.waiting - self.running - self.retries)


class Progress:
    """Counts one project's events and shows the counts.

    Args:
        names: the agents, in the order of the pipeline.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.agents = {name: Agent() for name in names}
        self.events = 0
        self.cost = 0.0
        self.made: Counter[str] = Counter()
        self._started = self._said = time.monotonic()
        self._live: object | None = None
        self._last = ""

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the counts for the length of the block."""
        out = console(stderr=True)
        if not out.is_terminal or out.is_dumb_terminal:
            yield
            return
        from rich.live import Live

        with Live(get_renderable=self._table, console=out, refresh_per_second=8, transient=True):
            self._live = out
            try:
                yield
            finally:
                self._live = None

    def see(self, events: Sequence[RecordedEvent], queues: Sequence[Queue]) -> None:
        """Take in new events, and what every agent has before it."""
        for recorded in events:
            event = recorded.event
            self.events += 1
            self.cost += event.cost or 0
            self.made[event.type.value] += 1
            if event.actor in self.agents:
                self.agents[event.actor].cost += event.cost or 0
            for name in recorded.deliveries:
                if name in self.agents:
                    self.agents[name].delivered += 1
        for queue in queues:
            agent = self.agents[queue.subscriber]
            agent.waiting, agent.running = queue.ready + queue.waiting, queue.running
            agent.retries = queue.delayed
        if self._live is None and time.monotonic() - self._said >= LINE_EVERY_S:
            self._say()

    def outstanding(self, otherwise: str = "nothing waits, and nobody says it is finished") -> str:
        """Say which agents have work left, `otherwise` when none has."""
        left = [f"{name} {self._state(agent)}" for name, agent in self.agents.items() if self._state(agent)]
        return ", ".join(left) or otherwise

    def _say(self) -> None:
        self._said = time.monotonic()
        line = f"{wording.plural(self.events, 'event')}, {wording.money(self.cost)}; {self.outstanding('finishing')}"
        if line != self._last:
            print(f"{self._said - self._started:5.1f} s  {line}", file=sys.stderr, flush=True)
        self._last = line

    @staticmethod
    def _state(agent: Agent) -> str:
        numbers = ((agent.running, "running"), (agent.waiting, "waiting"), (agent.retries, "to be retried"))
        return " and ".join(f"{count} {word}" for count, word in numbers if count)

    def _table(self) -> Table:
        from rich.table import Table

        elapsed = time.monotonic() - self._started
        table = Table(box=None, pad_edge=False, show_footer=True, footer_style="bold")
        done = sum(agent.done for agent in self.agents.values())
        columns = (
            ("AGENT", f"{elapsed:.1f} s, {wording.plural(self.events, 'event')}"), ("WAITING", ""), ("RUNNING", ""),
            ("RETRY", ""), ("DONE", str(done)), ("COST", wording.money(self.cost)),
        )  # fmt: skip
        for heading, footer in columns:
            table.add_column(
                heading, footer, justify="left" if heading == "AGENT" else "right", no_wrap=True, min_width=7
            )
        for name, agent in self.agents.items():
            style = "bold" if agent.running else "dim" if not agent.delivered else ""
            numbers = (agent.waiting, agent.running, agent.retries, agent.done)
            table.add_row(name, *(str(n) if n else "" for n in numbers), wording.money(agent.cost or None), style=style)
        return table
