"""The states, how each is filled, and one turn of measuring in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from benchmarks.contestant import Contestant, load
from benchmarks.peers import eventbus_scaled
from benchmarks.peers.eventbus_scaled import SCALE, Scale
from benchmarks.results import Figures
from benchmarks.works import Round, turn
from console.bench import meter

ONE_BY_ONE = 2_000
WARM_UP, DRAINED, SPARE = 5_000, 20_000, 5_000
"""Deliveries of a turn: handled before the clock starts, while it runs, and left over so that workers never run dry."""
_WAIT_S = 300.0
_POLL_S = 0.02  # counting a million marks is work


@dataclass(frozen=True, slots=True)
class State:
    """What there is of everything.

    Attributes:
        name: as the command line names it. title: as the table does. base: the state that it is compared with.
        waiting: deliveries that wait in it, besides those of a turn. unheard: events in history that nobody hears.
    """

    name: str
    title: str
    base: str
    scale: Scale = field(default_factory=Scale)
    waiting: int = 0
    unheard: int = 0

    def scaled(self, waiting: int, history: int) -> State:
        """Return it with other sizes, where it has any."""
        projects = min(self.scale.projects, max(1, waiting // 10))
        return replace(
            self,
            scale=replace(self.scale, projects=projects),
            waiting=waiting if self.waiting else 0,
            unheard=history if self.unheard else 0,
        )


STATES = {
    state.name: state
    for state in (
        State("small", "little of everything", "small"),
        State("waiting", "a million deliveries wait, of 100,000 projects", "small", Scale(projects=100_000), 1_000_000),
        State("history", "ten million events in history", "small", unheard=10_000_000),
        State("ten", "ten subscribers of one type", "ten", Scale(subscribers=10)),
        State("thousand", "1,000 subscribers, ten of each of 100 types", "ten", Scale(types=100, subscribers=10)),
    )
}


class Filled:
    """A state that is there: a server, and how many events it has had."""

    def __init__(self, state: State, at: Round) -> None:
        self.state, self._at = state, at
        self._published = 0

    def fill(self) -> None:
        if self.state.unheard:
            self._at.publish("unheard", 0, self.state.unheard)
        if self.state.waiting:
            self._publish("bulk", self.state.waiting // self.state.scale.subscribers)

    def measure(self) -> Figures:
        """Take one turn.

        Returns:
            `one_us`: from `await publish` to its end; `bulk_..._us`: of an event in `publish_many`, the producer's CPU
            and the server's; `drain_..._us`: of a delivery, the workers' CPU and the server's.
        """
        took, _, _ = self._publish("one", ONE_BY_ONE)
        events = (WARM_UP + DRAINED + SPARE) // self.state.scale.subscribers
        _, cpu, server = self._publish("bulk", events)
        return {
            "one_us": took / ONE_BY_ONE * 1e6,
            "bulk_producer_us": cpu / events * 1e6,
            "bulk_server_us": server / events * 1e6,
            **self._drain(),
        }

    def _publish(self, way: str, events: int) -> tuple[float, float, float]:
        before = self._at.server.spent()
        said = self._at.publish(way, self._published, events)
        self._published += events
        return said["took_s"], said["cpu_s"], self._at.server.spent().since(before).cpu_s

    def _drain(self) -> Figures:
        at, ledger = self._at, self._at.ledger
        begun = ledger.handled()
        at.launch()
        ledger.wait(begun + WARM_UP, _WAIT_S, _POLL_S)
        first, cpu, server = ledger.handled(), meter.cpu_s(at.pids), at.server.spent()
        ledger.wait(first + DRAINED, _WAIT_S, _POLL_S)
        count, cpu, server = ledger.handled() - first, meter.cpu_s(at.pids) - cpu, at.server.spent().since(server)
        at.stop_workers()
        return {"drain_worker_us": cpu / count * 1e6, "drain_server_us": server.cpu_s / count * 1e6}


@contextmanager
def filled(state: State, rounds: int) -> Iterator[Filled]:
    """A state, filled, with a ledger for that many turns."""
    ours = load("eventbus")
    scaled = Contestant("eventbus_scaled", eventbus_scaled, ours.python, ours.versions)
    per_turn = ONE_BY_ONE * state.scale.subscribers + WARM_UP + DRAINED + SPARE
    with turn(scaled, state.waiting + rounds * per_turn, {SCALE: state.scale.written()}) as at:
        found = Filled(state, at)
        found.fill()
        yield found
