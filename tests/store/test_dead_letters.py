"""Dead letters in SQL: made and decided with their outcomes, once, whatever comes twice, and found again."""

from __future__ import annotations

import pytest

from events.records import AttemptState, DeadLetter, LetterFilter, Outcome
from store.dead_letters import StoredLetters
from store.tables import dead_letters, deliveries, outcomes, rejected
from tests.store.conftest import an_event, store_events
from tests.store.test_archive import rows, store_outcomes

COLUMNS = ("position", "event_position", "subscriber", "redelivery", "resolution", "resolved_position")


def given_up(position, event_position, subscriber="Writer", redelivery=0, error="no ink", **texts):
    """The outcome that makes a letter, whose own position is the one before."""
    kept = {"traceback": "trace", "output": "[1]", "raw": "", **texts}
    return Outcome(
        position, event_position, subscriber, redelivery, 3, AttemptState.DEAD, "w1", 5, error, position - 1, **kept
    )


def decided(position, letter, state, event_position=1, redelivery=0, subscriber="Writer"):
    return Outcome(
        position, event_position, subscriber, redelivery, 0, AttemptState(state), "ann", 0, "as asked", letter
    )


def resolutions(engine):
    return rows(engine, dead_letters, "position", "resolution", "resolved_position")


@pytest.fixture
def letters(engine):
    return StoredLetters(engine, "test")


def test_a_letter_is_stored_with_the_outcome_that_makes_it_and_all_it_says(archive, letters):
    event = an_event(1, deliveries=("Writer",), payload={"n": 1})
    store_events(archive, event)
    made = given_up(12, 1, raw="raw")

    store_outcomes(archive, made)

    (letter,) = letters.iterate(LetterFilter())
    assert letter == DeadLetter(11, "Writer", 1, 0, 3, "w1", "no ink", event.event)
    assert letters.find([11, 12]) == {
        11: DeadLetter(11, "Writer", 1, 0, 3, "w1", "no ink", event.event, "trace", "[1]", "raw")
    }
    assert letters.open_counts() == {"Writer": 1}


def test_a_letter_whose_transaction_fails_is_not_there(archive, engine):
    with pytest.raises(KeyError), archive.writer("outcomes") as writer:
        writer.append_outcomes([given_up(12, 1)])
        writer.advance(12, "12-0")
        raise KeyError

    assert rows(engine, dead_letters) == rows(engine, outcomes) == []


LIFE = [
    given_up(12, 1),
    given_up(14, 2),
    decided(15, 11, "redelivered", redelivery=1),
    given_up(17, 1, redelivery=1),
    decided(18, 13, "purged", event_position=2),
    decided(19, 16, "discarded", redelivery=1),
    given_up(21, 0, raw="garbage"),
    given_up(23, 3),
]
LIVED = [
    (11, 1, "Writer", 0, "retried", 15),
    (13, 2, "Writer", 0, "purged", 18),
    (16, 1, "Writer", 1, "discarded", 19),
    (20, 0, "Writer", 0, "open", None),
    (22, 3, "Writer", 0, "open", None),
]


@pytest.mark.parametrize("cut", range(len(LIFE) + 1))
@pytest.mark.parametrize("apart", [True, False])
def test_letters_end_the_same_however_outcomes_are_cut_into_batches_and_repeated(archive, engine, cut, apart):
    for part in (LIFE[:cut], LIFE[cut:]):
        for batch in [[one] for one in part] if apart else [part] * bool(part):
            store_outcomes(archive, *batch)
    with archive.writer("outcomes") as writer:  # a crash before Redis was told: everything is read again
        assert writer.append_outcomes(LIFE).refused == []

    assert rows(engine, dead_letters, *COLUMNS) == LIVED
    assert rows(engine, deliveries, "event_position", "redelivery", "state", "attempts") == [
        (1, 0, "dead", 3), (1, 1, "dead", 3), (2, 0, "dead", 3), (3, 0, "dead", 3),
    ]  # fmt: skip
    assert rows(engine, rejected) == []


def test_what_is_delivered_again_is_a_delivery_that_waits_until_it_ends(archive, engine):
    store_outcomes(archive, given_up(12, 1), decided(13, 11, "redelivered", redelivery=1))
    assert (1, 1, "waiting", 0, None) in _deliveries(engine)

    store_outcomes(archive, Outcome(14, 1, "Writer", 1, 2, AttemptState.DONE, "w1"))

    assert _deliveries(engine) == [(1, 0, "dead", 3, 12), (1, 1, "done", 2, 14)]


def test_the_first_decision_stays_and_a_purged_letter_keeps_its_reason_alone(archive, engine, letters):
    store_outcomes(archive, given_up(12, 1), given_up(14, 2))

    store_outcomes(archive, decided(15, 11, "purged"), decided(16, 13, "discarded"))
    with archive.writer("outcomes") as writer:
        writer.append_outcomes([given_up(12, 1), decided(17, 11, "redelivered"), decided(18, 13, "purged")])
        writer.advance(18, "18-0")

    assert resolutions(engine) == [(11, "purged", 15), (13, "discarded", 16)]
    kept = {position: (one.reason, one.traceback, one.output) for position, one in letters.find([11, 13]).items()}
    assert kept == {11: ("no ink", "", ""), 13: ("no ink", "trace", "[1]")}


def test_a_decision_about_a_letter_that_nobody_stored_changes_nothing(archive, engine):
    store_outcomes(archive, decided(15, 11, "redelivered", redelivery=1))

    assert rows(engine, dead_letters) == []
    assert _deliveries(engine) == [(1, 1, "waiting", 0, None)]


def test_texts_that_no_database_holds_do_not_cost_the_letter(archive, letters):
    bad = "a\0b\ud800c"

    store_outcomes(archive, given_up(12, 1, error=bad, traceback=bad, output=bad, raw=bad))

    letter = letters.find([11])[11]
    assert {letter.reason, letter.traceback, letter.output, letter.raw} == {"a\ufffdb?c"}


def test_a_letter_that_cannot_be_stored_is_set_aside_and_blocks_nothing(archive, engine):
    beyond = Outcome(14, 2, "Writer", 0, 1, AttemptState.DEAD, "w1", letter=2**70)
    unheard = Outcome(15, 2, "Writer", 0, 1, AttemptState.DISCARDED, "w1", letter=2**70)

    store_outcomes(archive, given_up(12, 1), beyond, unheard, given_up(17, 3))

    assert [row[0] for row in rows(engine, dead_letters, "position")] == [11, 16]
    assert [row[:2] for row in rows(engine, rejected, "entry_id", "reason")] == [
        ("14-0", f"Its letter is {2**70:.6e}; it must be from 0 to {2**63 - 1}."),
        ("15-0", f"Its letter is {2**70:.6e}; it must be from 0 to {2**63 - 1}."),
    ]


def test_a_letter_whose_outcomes_position_was_given_twice_is_kept(archive, engine):
    store_outcomes(archive, Outcome(12, 1, "Writer", 0, 1, AttemptState.DONE, "w1"))

    with archive.writer("outcomes") as writer:
        late = writer.append_outcomes([given_up(12, 2)])

    assert len(late.refused) == 1
    assert rows(engine, dead_letters, *COLUMNS) == [(11, 2, "Writer", 0, "open", None)]


def test_letters_are_found_by_every_filter_a_page_at_a_time(archive, letters):
    for n in range(1, 9):
        store_events(archive, an_event(n, "AB"[n % 2], project_id=f"p{n % 3}"))
    made = [
        given_up(100 + 10 * n, n, "ST"[n % 4 == 0], error="No BRUSH" if n in (3, 4) else "no paint")
        for n in range(1, 10)
    ]
    store_outcomes(archive, *made)

    def ids(**wanted):
        return [letter.event_position for letter in letters.iterate(LetterFilter(**wanted), page=2)]

    assert ids() == list(range(1, 10))
    assert ids(subscribers=("T",)) == [4, 8]
    assert ids(types=("B",), project_id="p1") == [1, 7]
    assert ids(error="brush") == [3, 4]
    assert ids(after=119, before=149) == [3, 4]
    assert ids(names=frozenset({"e5", "6:S:0", "169", "4:S:0", "nothing", str(2**80)})) == [5, 6, 7]
    assert ids(names=frozenset({"9:S:0"})) == [9], "its event is not archived"


def test_the_attempts_and_the_decision_of_a_letter_are_told(archive, letters):
    first = Outcome(10, 1, "Writer", 0, 1, AttemptState.RETRIED, "w1", 7, "no ink")
    other = Outcome(19, 1, "Other", 0, 1, AttemptState.DONE, "w1")
    store_outcomes(archive, first, *LIFE[:6], other)
    (letter, *_, last) = letters.iterate(LetterFilter(names=frozenset({"1:Writer:0", "1:Writer:1"})))

    told = letters.attempts(letter)

    assert [(one.position, one.attempt, one.state) for one in told] == [
        (10, 1, "retried"), (12, 3, "dead"), (15, 0, "redelivered"), (17, 3, "dead"), (19, 0, "discarded"),
    ]  # fmt: skip
    decision = letters.decision(letter)
    assert decision is not None and (decision.position, decision.worker, decision.error) == (15, "ann", "as asked")
    assert letters.decision(last).state == "discarded"


def test_purging_empties_texts_of_decided_letters_and_closes_those_that_redis_lost(archive, engine, letters):
    store_outcomes(archive, *LIFE)
    found = list(letters.iterate(LetterFilter()))

    assert letters.purge(found[:4]) == 3, "one was purged before"
    assert letters.purge(found[:4]) == 0

    assert [row[1:] for row in resolutions(engine)] == [
        ("retried", 15), ("purged", 18), ("discarded", 19), ("purged", None), ("open", None),
    ]  # fmt: skip
    texts = {p: one.traceback + one.output + one.raw for p, one in letters.find([11, 13, 16, 20, 22]).items()}
    assert texts == {11: "", 13: "", 16: "", 20: "", 22: "trace[1]"}
    assert letters.open_counts() == {"Writer": 1}
    assert letters.purge([]) == 0


def test_namespaces_do_not_see_each_others_letters(archive, engine, letters):
    store_outcomes(archive, given_up(12, 1))
    other = StoredLetters(engine, "another")

    assert list(other.iterate(LetterFilter())) == []
    assert other.find([11]) == {} and other.open_counts() == {}
    assert other.purge(list(letters.iterate(LetterFilter()))) == 0


def _deliveries(engine):
    return rows(engine, deliveries, "event_position", "redelivery", "state", "attempts", "settled_position")
