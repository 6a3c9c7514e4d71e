"""The error tree: every exception that leaves this project, and nothing else.

    EventBusError
    ├── InvalidEvent (ValueError)          a field is wrong; nothing was written
    │   └── EventTooLarge                  the encoded event exceeds max_event_bytes
    ├── InvalidSettings (ValueError)       an environment variable or argument is wrong
    ├── InvalidSubscription (ValueError)   a subscriber's name, types or options are wrong
    ├── InvalidSchedule (ValueError)       a delay, a moment or a cron schedule cannot be used
    ├── InvalidSchema (ValueError)         a payload's model or upcaster cannot be registered
    ├── InvalidFilter (ValueError)         a question about history cannot be asked like this
    ├── InvalidImport (ValueError)         a file or table of events cannot be read
    ├── InvalidValue (ValueError)          a pointer, key or value that the blackboard cannot keep
    ├── PublishRefused                     Redis answered, and the answer was no
    │   ├── EventIdConflict                the id is taken by an event that says something else
    │   ├── TooManyRoutes                  more subscribers of one type than max_routes
    │   └── HistoryReset                   the namespace lost its epoch and nobody declared it anew
    ├── NotDurable                         what was published is not on the server's disk, or nobody can tell
    ├── EventNotFound (LookupError)        no event has that id
    ├── ValueNotFound (LookupError)        the blackboard has no such value, or has it no more
    ├── VersionConflict                    the blackboard's value is not at the expected version
    ├── UnknownSubscriber (LookupError)    nobody declared a subscriber of that name
    ├── DropRefused                        a subscriber has what dropping it would lose
    ├── RedeliveryRefused                  events cannot be delivered again to this subscriber, or not now
    ├── PayloadUnreadable (ValueError)     a payload that was stored makes no model of its type here
    ├── MalformedEntry (ValueError)        bytes in Redis are not what this project writes there
    ├── Unavailable (ConnectionError)      a server cannot be reached; the sentence names its URL
    │   ├── RedisUnavailable
    │   │   ├── LoginRefused               it answers, and refuses the user or the password
    │   │   └── CertificateRefused         it answers, and its certificate is not one that we trust
    │   └── StoreUnavailable
    ├── ScriptFailed                       Redis refused a script: wrong type, read-only, out of memory
    ├── NotMigrated                        the database has no schema, or an older or newer one
    ├── EmbeddedServerError                the embedded Valkey did not start
    ├── NotIdle (TimeoutError)             what a test published has not come to rest in time
    ├── HandlersFailed                     handlers gave up what a test did not expect them to give up
    └── NotIdempotent (AssertionError)     a handler that is repeated leaves something else than one that is not

Not errors of this project: `Discard` and `Retry`, which a handler raises to say how its delivery goes
on, and `TimeLimitExceeded`, which is raised inside it.

Each message is a sentence that carries its data: what was wrong, with what value, what to do.
Driver exceptions are mapped to these at the floor where the driver lives.
"""

from __future__ import annotations

from datetime import timedelta

MAX_AFTER_S = 1e9


class EventBusError(Exception):
    """Any failure this project reports."""


class InvalidEvent(EventBusError, ValueError):
    """An event has wrong fields; nothing was written.

    Attributes:
        problems: one sentence per bad field, in the order of the fields.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("The event is not valid: " + " ".join(problems))


class EventTooLarge(InvalidEvent):
    """The encoded event is larger than `max_event_bytes`."""


class InvalidSettings(EventBusError, ValueError):
    """A setting has a value that cannot be used."""


class InvalidSubscription(EventBusError, ValueError):
    """A subscriber cannot be declared as asked."""


class InvalidSchedule(EventBusError, ValueError):
    """A delay, a moment or a cron schedule cannot be used; nothing was published or scheduled."""


class InvalidSchema(EventBusError, ValueError):
    """A model or an upcaster of a payload cannot be registered."""


class InvalidFilter(EventBusError, ValueError):
    """A filter of events contradicts itself, or asks for what no event can have, e.g. a reversed time range."""


class InvalidImport(EventBusError, ValueError):
    """A file or table is not one from which events can be read, or an export not one to go on with."""


class InvalidValue(EventBusError, ValueError):
    """A pointer cannot be read, or a key or value cannot be kept; nothing was written."""


class ValueNotFound(EventBusError, LookupError):
    """The blackboard has no value there: never written, deleted, pruned or redacted."""


class VersionConflict(EventBusError):
    """A compare-and-set found another version; nothing was written.

    Attributes:
        current: the newest version; 0 when there is none.
    """

    def __init__(self, message: str, current: int) -> None:
        self.current = current
        super().__init__(message)


class PublishRefused(EventBusError):
    """Redis was reached and refused the event; nothing was written."""


class EventIdConflict(PublishRefused):
    """The event id is taken by an event with another content."""


class TooManyRoutes(PublishRefused):
    """One event type has more subscribers than `max_routes`."""


class HistoryReset(PublishRefused):
    """Redis lost the namespace (FLUSHALL, empty replica) and nobody has declared it again."""


class NotDurable(EventBusError):
    """A durable publish cannot be promised: the server cannot wait for its disk, or has not in time.

    Unless the sentence says that nothing was published, or that it may be lost, the event is published. Publishing it
    again is safe, and waits again.
    """


class UnknownSubscriber(EventBusError, LookupError):
    """No subscriber of that name is declared."""


class DropRefused(EventBusError):
    """A subscriber is not dropped: workers take it or hold deliveries of it, or dead letters are kept."""


class RedeliveryRefused(EventBusError):
    """A subscriber takes none of the events, joins, is back-filled, or has another redelivery under way."""


class EventNotFound(EventBusError, LookupError):
    """No event in history or store has the id."""


class PayloadUnreadable(EventBusError, ValueError):
    """A payload cannot be read as the newest model of its type. The event is as it was.

    Attributes:
        problems: one sentence per field that does not fit; empty where something else is wrong.
    """

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        self.problems = problems or []
        super().__init__(message)


class MalformedEntry(EventBusError, ValueError):
    """An entry read from Redis is not one that this project writes."""


class Unavailable(EventBusError, ConnectionError):
    """A server cannot be reached. What was being written may or may not have arrived."""


class RedisUnavailable(Unavailable):
    """Redis or Valkey cannot be reached."""


class LoginRefused(RedisUnavailable):
    """Redis or Valkey answers, and refuses the user or the password."""


class CertificateRefused(RedisUnavailable):
    """Redis or Valkey answers with a certificate that is not trusted; nothing was sent, no password either."""


class StoreUnavailable(Unavailable):
    """The SQL database cannot be reached."""


class ScriptFailed(EventBusError):
    """Redis was reached and a script ended in an error.

    Attributes:
        code: the first word of Redis's error, e.g. `OOM`, `READONLY`, `WRONGTYPE`.
        passes: the server is in a state that ends by itself or by an operator's hand (full, a replica
            during a failover, busy); trying again later makes sense.
    """

    def __init__(self, message: str, code: str) -> None:
        self.code = code
        self.passes = code in ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "TRYAGAIN")
        super().__init__(message)


class NotMigrated(EventBusError):
    """The database's schema is missing, or not the one this version needs."""


class EmbeddedServerError(EventBusError):
    """The embedded Valkey could not be started."""


class NotIdle(EventBusError, TimeoutError):
    """A test's deadline passed while something moved; the text names what runs, what waits and what was published."""


class HandlersFailed(EventBusError):
    """Deliveries became dead letters in a test that expected none of them, or not for this reason.

    Attributes:
        failures: as text, one for each dead letter: who gave up what, after how many attempts, and why.
    """

    def __init__(self, message: str, failures: tuple[str, ...] = ()) -> None:
        self.failures = failures
        super().__init__(message)


class NotIdempotent(EventBusError, AssertionError):
    """A handler leaves something else when it is killed and repeated; the text is that of the report."""


class Discard(Exception):
    """Raised by a handler: end this delivery now, without a retry and without a dead letter.

    Args:
        reason: why, for the outcome; anything else than text is shown as `str` shows it.
    """

    reason = ""

    def __init__(self, reason: object = "") -> None:
        self.reason = str(reason)
        super().__init__(self.reason)


class Retry(Exception):
    """Raised by a handler: try again. The attempt counts; the last one makes a dead letter as any failure does.

    `retry_on` and `give_up_on` do not apply: who raises this has decided.

    Args:
        after: seconds or a timedelta until the next attempt, at most 1e9 s; a time that has passed means at
            once. None lets the subscriber's backoff decide.
        reason: why, for the outcome.
        at_least: not before the subscriber's backoff, if that is longer: somebody else named the time.

    Raises:
        TypeError, ValueError: `after` is not a time, or too long. Inside a handler that is a failure like
            any other.
    """

    after: float | None = None
    at_least: bool = False  # here too: a subclass of an application's may not call what follows

    def __init__(self, after: float | timedelta | None = None, reason: object = "", *, at_least: bool = False) -> None:
        self.after = None if after is None else _seconds(after)
        self.at_least = at_least
        self.reason = str(reason)
        how = "retry" if self.after is None else f"retry after {self.after:g} s"
        super().__init__(f"{self.reason}; {how}" if self.reason else how)


class TimeLimitExceeded(BaseException):
    """Raised inside a plain handler that ran longer than its subscriber's `time_limit`.

    An async handler is cancelled instead: it sees `asyncio.CancelledError`. Either way the attempt has failed
    with this, unless the handler catches it and returns. Not an `Exception`, so that `except Exception` in a
    handler does not swallow it; `retry_on` and `give_up_on` may name it.
    """


def _seconds(after: object) -> float:
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if isinstance(after, bool) or not isinstance(after, int | float):
        raise TypeError(f"Retry(after=...) must be seconds or a timedelta, not {after!r:.100}.")
    if not after <= MAX_AFTER_S:
        raise ValueError(f"Retry(after=...) must be at most {MAX_AFTER_S:g} seconds, not {after!r:.100}.")
    return max(float(after), 0.0)
