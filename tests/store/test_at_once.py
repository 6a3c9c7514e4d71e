"""Two archivers, one of which dies, a prune and ten readers: nobody sees what cannot be, and totals are exact."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, Table, func, select

from events.errors import EventNotFound
from events.records import AttemptState, Outcome
from store.blackboard import Blackboard
from store.deliveries import DeliveryFilter
from store.engine import reading
from store.inspection import counted
from store.tables import deliveries, event_index, outcomes
from tests.store.conftest import an_event
from tests.store.doubles import FakeClock

TOTAL, OLD, TREE, BATCH = 600, 400, 20, 20
PAUSE_S = 0.02  # between two questions of a reader, so that ten of them leave archivers some of the machine


def waits(position: int) -> bool:
    """Every tenth delivery is never settled."""
    return position % 10 == 0


def root_of(position: int) -> int:
    return position - (position - 1) % TREE


HISTORY = [
    an_event(
        n, project_id=f"p{n % 3}", metadata={"cost": n, "latency_ms": n}, deliveries=("A",),
        causation_id=f"e{root_of(n)}" if n != root_of(n) else None, correlation_id=f"e{root_of(n)}",
    )
    for n in range(1, TOTAL + 1)
]  # fmt: skip
ENDED = [
    Outcome(10_000 + n, n, "A", 0, 1, AttemptState.DONE, "w", elapsed_us=n) for n in range(1, TOTAL + 1) if not waits(n)
]
STREAMS: dict[str, Sequence[Any]] = {"history": HISTORY, "outcomes": ENDED}


class Killed(Exception):
    """An archiver has written everything of a batch, and will never commit it."""


class Scene:
    """What the threads share.

    Attributes:
        stop: set when all is archived. died: set when the archiver that is to die has died.
        batches: how many each archiver has committed. failed: what nobody should have raised or seen.
    """

    def __init__(self, open_board: Callable[[], Blackboard]) -> None:
        self.stop, self.died = threading.Event(), threading.Event()
        self.batches: Counter[str] = Counter()
        self.failed: list[BaseException] = []
        self._open_board = open_board

    def start(self, work: Callable[[Scene, Blackboard], None]) -> threading.Thread:
        def run() -> None:
            try:
                with self._open_board() as board:
                    work(self, board)
            except BaseException as error:
                self.failed.append(error)
                self.stop.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def archive(self, board: Blackboard, name: str, stream: Any, *, dies_at: int = TOTAL, until: int = TOTAL) -> int:
        """Archive a batch if nobody else does; return the cursor, -1 when standing by."""
        with board.archive.writer(stream) as writer:
            if writer is None:
                return -1
            cursor = writer.cursor.position
            batch = [one for one in STREAMS[stream] if one.position > cursor][:BATCH]
            if not batch or (stream == "history" and cursor >= until):
                return cursor
            (writer.append_events if stream == "history" else writer.append_outcomes)(batch)  # type: ignore[arg-type]
            writer.advance(batch[-1].position, f"{batch[-1].position}-0")
            if stream == "history" and cursor >= dies_at:
                writer.finish()
                raise Killed
        self.batches[name] += 1
        return int(batch[-1].position)


def archive_and_die(scene: Scene, board: Blackboard) -> None:
    """Archive with the other one; die in the middle of a batch, half-way."""
    try:
        while not scene.stop.is_set():
            for stream in STREAMS:
                scene.archive(board, "first", stream, dies_at=TOTAL // 2)
    except Killed:
        scene.died.set()


def archive_to_the_end(scene: Scene, board: Blackboard) -> None:
    """Archive with the other one; go beyond the half when it has died."""
    at = dict.fromkeys(STREAMS, 0)
    while not scene.stop.is_set() and at != {stream: every[-1].position for stream, every in STREAMS.items()}:
        for stream in STREAMS:
            until = TOTAL if scene.died.is_set() else TOTAL // 2
            at[stream] = max(at[stream], scene.archive(board, "second", stream, until=until))


def prune(scene: Scene, board: Blackboard) -> None:
    while not scene.stop.wait(PAUSE_S):
        board.retention.prune(OLD + 1)


def replay(scene: Scene, board: Blackboard) -> None:
    while not scene.stop.wait(PAUSE_S):
        positions = [recorded.position for recorded in board.replay.iterate(page=50)]
        assert positions == sorted(set(positions))
        missing = set(range(1, max(positions, default=0) + 1)) - set(positions)
        assert all(n <= OLD and not waits(n) for n in missing), "only what is old and settled goes"


def follow_trees(scene: Scene, board: Blackboard) -> None:
    grown = 0
    while not scene.stop.wait(PAUSE_S):
        for root in (1, TOTAL - TREE + 1):
            try:
                tree = board.causation.tree(f"e{root}")
            except EventNotFound:
                assert root <= OLD or not grown, "what is young stays"
                continue
            assert all(root_of(node.event.position) == root for _, node in tree.walk())
            assert tree.cost_micros == 1_000_000 * sum(node.event.position for _, node in tree.walk())
            if root > OLD:
                assert tree.count in (TREE, grown or TREE)
                grown = tree.count


def count_events(scene: Scene, board: Blackboard) -> None:
    before = 0
    while not scene.stop.wait(PAUSE_S):
        found = board.statistics.project()
        assert found.total.count == sum(one.count for one in found.types) >= before, "what is pruned stays counted"
        assert found.total.cost_total == sum(range(1, found.total.count + 1)), "the first events, all of them"
        before = found.total.count


def count_deliveries(scene: Scene, board: Blackboard) -> None:
    while not scene.stop.wait(PAUSE_S):
        done = [one.event_position for one in board.deliveries.iterate(DeliveryFilter(state="done"), page=50)]
        assert done == sorted(set(done)) and not any(map(waits, done))
        for one in board.statistics.deliveries():
            assert one.attempts == one.done <= len(ENDED) and one.failures == 0


def rows(engine: Engine, table: Table) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


READERS = [replay, replay, replay, replay, follow_trees, follow_trees, count_events, count_events, count_deliveries]


def test_two_archivers_a_prune_and_ten_readers_at_once_leave_exact_totals(
    engine: Engine, url: str, open_at: Callable[..., Engine]
) -> None:
    scene = Scene(lambda: Blackboard(open_at(url, timeout_s=30), "test", None, FakeClock()))

    others = [scene.start(work) for work in (archive_and_die, prune, *READERS, count_deliveries)]
    scene.start(archive_to_the_end).join(120)
    scene.stop.set()
    [thread.join(120) for thread in others]

    assert scene.failed == []
    assert scene.died.is_set() and scene.batches["first"] and scene.batches["second"], scene.batches
    assert sum(scene.batches.values()) == -(-TOTAL // BATCH) + -(-len(ENDED) // BATCH), "each batch once"
    board = Blackboard(engine, "test", None, FakeClock())
    assert [board.archive.cursor(stream).position for stream in ("history", "outcomes")] == [TOTAL, ENDED[-1].position]
    board.retention.prune(OLD + 1)
    left = [n for n in range(1, TOTAL + 1) if n > OLD or waits(n)]
    assert [recorded.position for recorded in board.replay.iterate()] == left
    assert [rows(engine, table) for table in (event_index, deliveries)] == [len(left)] * 2
    assert rows(engine, outcomes) == sum(not waits(n) for n in left)
    sums = counted(engine, "test")
    assert sums.agrees and sums.counted_events == sums.counted_deliveries == TOTAL, sums
    for project in (None, "p0", "p1", "p2"):
        mine = [n for n in range(1, TOTAL + 1) if project in (None, f"p{n % 3}")]
        total, (ended,) = board.statistics.project(project).total, board.statistics.deliveries(project)
        assert (total.count, total.cost_total) == (len(mine), sum(mine))
        assert total.latency_average_ms == sum(mine) / len(mine)
        settled = [n for n in mine if not waits(n)]
        assert (ended.done, ended.waiting, ended.attempts) == (len(settled), len(mine) - len(settled), len(settled))
        assert ended.elapsed_average_ms == sum(settled) / 1e3 / len(settled)
