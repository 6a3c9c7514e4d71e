"""What the storyboard's agents have in common: they say what they made, and it is priced and timed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any

from events import Event, EventSubscriber, EventType
from examples.storyboard.prices import price


class StoryEvent(StrEnum):
    """Types that this pipeline adds to the vocabulary; the bus needs no word about them."""

    REQUIREMENTS_PARSED = "REQUIREMENTS_PARSED"


@dataclass(frozen=True, slots=True)
class Made:
    """Something an agent has made, on its way to become an event.

    Attributes:
        step: the step's name in the price list.
        pointer: the file that holds what is too big for the payload.
    """

    type: EventType | StoryEvent
    step: str
    payload: dict[str, Any]
    pointer: str | None = None


class Agent(EventSubscriber):
    """An agent whose `work` yields what it makes.

    Handlers are plain functions, which a worker runs in a thread: they draw and compute. They may
    run twice for one event, and keep nothing in memory: all they know is in the event and on the desk.
    """

    @abstractmethod
    def work(self, event: Event) -> Iterator[Made]:
        """Do the work that an event asks for."""

    def handle_event(self, event: Event) -> list[Event]:
        """Return an event for each thing made, with its cost and the time that it took to make."""
        caused, started = [], perf_counter()
        for made in self.work(event):
            latency_ms = round((perf_counter() - started) * 1000, 2)
            caused.append(
                event.caused(
                    made.type,
                    actor=self.name,
                    payload=made.payload,
                    blackboard_pointer=made.pointer,
                    cost=price(made.step),
                    latency_ms=latency_ms,
                )
            )
            started = perf_counter()
        return caused
