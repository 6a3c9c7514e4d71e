"""What a soak must have left behind: the checker's rules, asked of the database in sums, for a million events.

`tests/chaos/check.py` reads every row into memory, and here they would not fit.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Engine, text

from tests.chaos.check import statistics_differ
from tests.chaos.remains import left_in_redis
from tests.chaos.stage import NAMESPACE, Stage
from tests.soak.app import TOCK_EVERY

EVENTS = "SELECT type, count(*), count(DISTINCT event_id) FROM events WHERE namespace = :n GROUP BY type ORDER BY type"
DELIVERIES = """
    SELECT subscriber, state, count(*) FROM deliveries WHERE namespace = :n
    GROUP BY subscriber, state ORDER BY subscriber, state"""
LETTERS = "SELECT reason, count(*) FROM dead_letters WHERE namespace = :n GROUP BY reason ORDER BY reason LIMIT 5"
ENDED_TWICE = """
    SELECT count(*) FROM (
        SELECT 1 AS one FROM outcomes WHERE namespace = :n AND state IN ('done', 'dead', 'discarded')
        GROUP BY event_position, subscriber HAVING count(*) > 1
    ) AS twice"""
CAUSED_TWICE = """
    SELECT count(*) FROM (
        SELECT 1 AS one FROM events WHERE namespace = :n AND type <> 'TICK'
        GROUP BY causation_id, type HAVING count(*) > 1
    ) AS twice"""
OVERTAKEN = """
    SELECT count(*) FROM (
        SELECT events.position AS place,
               lag(events.position) OVER (PARTITION BY events.project_id ORDER BY outcomes.position) AS former
        FROM outcomes JOIN events
            ON events.namespace = outcomes.namespace AND events.position = outcomes.event_position
        WHERE outcomes.namespace = :n AND outcomes.subscriber = 'Keeper' AND outcomes.state = 'done'
    ) AS ended WHERE former > place"""
EFFECTS = "SELECT count(*), count(DISTINCT event_id) FROM soak_effects"
LAST = "SELECT max(position) FROM events WHERE namespace = :n"


def violations(stage: Stage, ticks: int) -> Iterator[str]:
    """Iterate over what does not hold when all has come to rest; nothing: everything does."""
    if stage.quiet_after_s is None:
        yield f"Processes live and work waits: {stage.left}."
    yield from of_the_store(stage.engine, ticks)
    yield from statistics_differ(stage.engine)
    ((last,),) = _rows(stage.engine, LAST)
    yield from left_in_redis(stage, last or 0)


def of_the_store(engine: Engine, ticks: int) -> Iterator[str]:
    """Iterate over what the store and the application's table say otherwise than so many TICKs must have made it."""
    tocks = -(-ticks // TOCK_EVERY)
    events = {"TICK": ticks, "TOCK": tocks, "BILLED": tocks}
    found = {kind: (count, distinct) for kind, count, distinct in _rows(engine, EVENTS)}
    if found != {kind: (count, count) for kind, count in events.items()}:
        yield f"The store should have, each once, {events}; of each type it has so many, and so many ids: {found}."
    meant = {"Counter": ticks, "Keeper": ticks, "Biller": tocks, "Listener": 2 * tocks}
    ended = {(subscriber, state): count for subscriber, state, count in _rows(engine, DELIVERIES)}
    if ended != {(subscriber, "done"): count for subscriber, count in meant.items()}:
        yield f"Of deliveries {meant} should be done; there are {ended}."
    for reason, count in _rows(engine, LETTERS):
        yield f"{count} deliveries were given up: {reason}"
    for sql, says in (
        (ENDED_TWICE, "deliveries ended more than once"),
        (CAUSED_TWICE, "events caused the same more than once"),
        (OVERTAKEN, "events ended after a later one of their project"),
    ):
        ((count,),) = _rows(engine, sql)
        if count:
            yield f"{count} {says}."
    ((effects, distinct),) = _rows(engine, EFFECTS)
    if (effects, distinct) != (tocks, tocks):
        yield f"{tocks} effects should be in the database; there are {effects}, of {distinct} events."


def _rows(engine: Engine, sql: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        parameters = {"n": NAMESPACE} if ":n" in sql else {}
        return [tuple(row) for row in connection.execute(text(sql), parameters)]
