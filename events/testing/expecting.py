"""What a test expects of its handlers' failures, and the error when it is otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

from events.errors import HandlersFailed
from events.records import DeadLetter
from events.testing.doors import OWN
from events.testing.watch import Watch

Types: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"

HOW = "A test that wants this says run_until_idle(raises=ValueError), or allow_dead=True or a subscriber's name."


@dataclass(frozen=True, slots=True)
class Expected:
    """Which dead letters a test expects.

    Attributes:
        raises: at least one, and none but from these exceptions; empty where nobody says so.
        subscribers: whose may be; None is everybody's.
    """

    raises: tuple[type[BaseException], ...]
    subscribers: frozenset[str] | None

    @classmethod
    def of(cls, raises: Types | None, allow_dead: bool | str | Iterable[str]) -> Self:
        """Read the arguments of `run_until_idle`."""
        types = () if raises is None else raises if isinstance(raises, tuple) else (raises,)
        if isinstance(allow_dead, bool):
            return cls(types, None if allow_dead else frozenset())
        return cls(types, frozenset([allow_dead] if isinstance(allow_dead, str) else allow_dead))

    def allows(self, subscriber: str, error: BaseException | None) -> bool:
        """Tell whether this failure is one that the test expects."""
        if self.raises and isinstance(error, self.raises):
            return True
        return self.subscribers is None or subscriber in self.subscribers


def check(letters: Sequence[DeadLetter], expected: Expected, watch: Watch, how: str = HOW) -> None:
    """Compare the dead letters of a run with what the test expects.

    Args:
        how: the sentence that says what to do about unexpected ones.

    Raises:
        HandlersFailed: from the first unexpected one's own exception, where the handler ran here.
    """
    causes = [watch.raised(letter.subscriber, letter.event.event_id if letter.event else "") for letter in letters]
    unexpected = [
        (letter, cause)
        for letter, cause in zip(letters, causes, strict=True)
        if not expected.allows(letter.subscriber, cause)
    ]
    if unexpected:
        failures = tuple(map(described, (letter for letter, _ in unexpected)))
        count = (
            "One delivery became a dead letter"
            if len(failures) == 1
            else f"{len(failures)} deliveries became dead letters"
        )
        said = "".join(f"\n  {failure}" for failure in failures)
        raise HandlersFailed(f"{count}:{said}\n{how}", failures) from _shown(unexpected[0][1])
    if expected.raises and not any(isinstance(cause, expected.raises) for cause in causes):
        names = " or ".join(kind.__name__ for kind in expected.raises)
        raise HandlersFailed(f"No delivery became a dead letter because of {names}, which the test expects.")


def _shown(error: BaseException | None) -> BaseException | None:
    """Begin an exception's traceback at the handler: what called it is of no interest to whoever tests it."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OWN):
        trace = trace.tb_next
    return error.with_traceback(trace or error.__traceback__) if error is not None else None


def described(letter: DeadLetter) -> str:
    """Say who gave up what, after how many attempts, and why."""
    what = f"{letter.event.type.value} {letter.event.event_id}" if letter.event else "what could not be read"
    tries = "1 attempt" if letter.attempts == 1 else f"{letter.attempts} attempts"
    return f"{letter.subscriber} gave up {what} after {tries}: {letter.reason}"
