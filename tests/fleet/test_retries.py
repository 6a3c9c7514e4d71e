"""Retries, what ends them, and the time limit: what a subscriber may choose, and what a handler may ask for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from events.bus import EventBus
from events.errors import Discard, InvalidSubscription, Retry, TimeLimitExceeded
from events.event import Event
from events.subscriptions import SubscriberOptions
from tests.fleet.conftest import make_world
from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.valkey_servers import ValkeyServer
from tests.waiting import wait_until
from workers.backoff import delay_s, giving_up

APP = "tests.fleet.choosy:bus"


@pytest.fixture(scope="module")
def choosy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a worker process of the application `tests.fleet.choosy` that a module's tests share."""
    with ValkeyServer() as server:
        world = make_world(server.url, tmp_path_factory.mktemp("choosy"))
        try:
            world.start_fleet(1, app=APP)
            yield world
        finally:
            world.close()


def attempts(world: World, subscriber: str, position: int) -> list[tuple[int, str]]:
    return [(attempt, state) for _, attempt, state, _ in world.outcomes(subscriber, position)]


# when


def test_the_defaults_spread_five_attempts_over_about_an_hour() -> None:
    exact = SubscriberOptions(jitter=0)
    waits = [delay_s(attempt, exact) for attempt in range(1, exact.max_attempts)]

    assert waits == [45, 180, 720, 2880]
    assert sum(waits) == pytest.approx(3600, rel=0.1)


def test_jitter_spreads_a_wait_by_its_fraction_either_way() -> None:
    for jitter, lowest, highest in ((0.25, 33.75, 56.25), (1, 0, 90)):
        waits = [delay_s(1, SubscriberOptions(jitter=jitter)) for _ in range(2000)]

        assert lowest <= min(waits) < 45 < max(waits) <= highest
        assert max(waits) - min(waits) > 0.9 * (highest - lowest)


def test_a_wait_is_capped_before_jitter_and_any_attempt_has_one() -> None:
    options = SubscriberOptions(min_backoff=10, max_backoff=100, jitter=0)

    assert [delay_s(attempt, options) for attempt in (1, 2, 3, 1_000_000)] == [10, 40, 100, 100]


# whether


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("jitter", -0.1), ("jitter", 1.1), ("jitter", math.nan), ("jitter", "0.5"), ("jitter", True), ("jitter", None),
        ("retry_on", ()), ("retry_on", ("ValueError",)), ("retry_on", (ValueError("one"),)), ("retry_on", int),
        ("retry_on", Retry), ("give_up_on", (ValueError, Discard)), ("give_up_on", None), ("give_up_on", "all"),
        ("max_attempts", 0), ("max_attempts", 2.0), ("min_backoff", -1), ("max_backoff", math.inf),
        ("time_limit", math.nan), ("time_limit", timedelta(seconds=5)),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(InvalidSubscription, match=f"^{option} "):
        SubscriberOptions(**{option: value})  # type: ignore[arg-type]


def test_exception_types_may_be_one_or_a_list_and_are_kept_as_a_tuple() -> None:
    given: Any = {"retry_on": ConnectionError, "give_up_on": [ValueError, KeyError]}
    options = SubscriberOptions(**given)

    assert (options.retry_on, options.give_up_on) == ((ConnectionError,), (ValueError, KeyError))
    assert options == SubscriberOptions(retry_on=(ConnectionError,), give_up_on=(ValueError, KeyError))


NETWORK = SubscriberOptions(retry_on=(ConnectionError, TimeLimitExceeded), give_up_on=(ConnectionRefusedError,))
NO_VALUES = SubscriberOptions(give_up_on=(ValueError,))
REFUSED, RESET, VALUE = ConnectionRefusedError(), ConnectionResetError(), UnicodeError()


@pytest.mark.parametrize(
    ("options", "error", "clause"),
    [
        (SubscriberOptions(), VALUE, None),
        (NETWORK, RESET, None),
        (NETWORK, TimeLimitExceeded(), None),
        (NETWORK, REFUSED, "give_up_on names ConnectionRefusedError"),
        (NETWORK, VALUE, "retry_on does not name UnicodeError"),
        (NETWORK, KeyboardInterrupt(), "retry_on does not name KeyboardInterrupt"),
        (NO_VALUES, VALUE, "give_up_on names ValueError"),
        (NO_VALUES, RESET, None),
        (NO_VALUES, TimeLimitExceeded(), None),
        (SubscriberOptions(give_up_on=(Exception,)), TimeLimitExceeded(), None),
        (SubscriberOptions(give_up_on=(Exception,)), Retry(), None),
        (SubscriberOptions(retry_on=(KeyError,)), Retry(), None),
        (NETWORK, ExceptionGroup("g", [RESET, ExceptionGroup("h", [RESET])]), None),
        (NETWORK, ExceptionGroup("g", [RESET, VALUE]), "retry_on does not name UnicodeError"),
        (NETWORK, ExceptionGroup("g", [VALUE, REFUSED]), "give_up_on names ConnectionRefusedError"),
    ],
)
def test_which_option_decides(options: SubscriberOptions, error: BaseException, clause: str | None) -> None:
    assert giving_up(error, options) == clause


@pytest.mark.parametrize("name", ["Choosy", "ChoosyAsync"])
def test_an_error_that_is_not_worth_a_retry_is_a_dead_letter_at_its_first_failure(choosy: World, name: str) -> None:
    refused, other = make("CHOICE", error="ConnectionRefusedError"), make("CHOICE", error="LookupError")

    receipts = publish(choosy, refused, other)
    letters = [
        wait_until(lambda e=event: choosy.dead(name, e), 30, f"the letter; {choosy.log()}")[0]
        for event in (refused, other)
    ]

    assert [letter["r"] for letter in letters] == [
        "Given up at once, because give_up_on names ConnectionRefusedError: ConnectionRefusedError: on purpose",
        "Given up at once, because retry_on does not name LookupError: LookupError: on purpose",
    ]
    assert all("in fail" in letter["t"] and letter["a"] == "1" for letter in letters)
    assert choosy.runs(name, of=[refused, other]).total() == 2
    assert [attempts(choosy, name, receipt.position) for receipt in receipts] == [[(1, "dead")]] * 2


@pytest.mark.parametrize("name", ["Choosy", "ChoosyAsync"])
def test_an_error_that_is_worth_a_retry_is_tried_again(choosy: World, name: str) -> None:
    alone = make("CHOICE", error="ConnectionResetError", fail=2)
    grouped = make("CHOICE", group=["ConnectionResetError", "BrokenPipeError"], fail=1)

    [first, second] = publish(choosy, alone, grouped)
    choosy.until_settled(name)

    assert attempts(choosy, name, first.position) == [(1, "retried"), (2, "retried"), (3, "done")]
    assert attempts(choosy, name, second.position) == [(1, "retried"), (2, "done")]


# what a handler may ask for


def test_a_handler_says_when_in_seconds_or_as_a_timedelta_and_why() -> None:
    assert [Retry(after).after for after in (None, 0, 1.5, timedelta(minutes=2), 1e9)] == [None, 0, 1.5, 120, 1e9]
    assert [Retry(after).after for after in (-3, -math.inf, timedelta(days=-1))] == [0, 0, 0], "passed means now"
    assert [str(Retry()), str(Retry(0.25)), str(Retry(60, "quota"))] == [
        "retry", "retry after 0.25 s", "quota; retry after 60 s",
    ]  # fmt: skip
    assert [Discard(reason).reason for reason in ("", 404, None, KeyError("x"))] == ["", "404", "None", "'x'"]


@pytest.mark.parametrize("after", ["5", b"5", True, [], 5j])
def test_a_time_that_is_none_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises(TypeError, match="must be seconds or a timedelta, not"):
        Retry(after)


@pytest.mark.parametrize("after", [math.nan, math.inf, 1.1e9, 10**400, timedelta.max])
def test_a_time_beyond_all_clocks_is_refused_where_it_is_raised(after: Any) -> None:
    with pytest.raises(ValueError, match=r"must be at most 1e\+09 seconds, not"):
        Retry(after)


def test_a_retry_that_a_handler_asks_for_counts_as_an_attempt(choosy: World) -> None:
    event = make("THRICE", retry={"after": -1, "reason": "quota of the day"})

    [receipt] = publish(choosy, event)
    letter = wait_until(lambda: choosy.dead("Thrice", event), 30, f"the letter; {choosy.log()}")[0]

    assert attempts(choosy, "Thrice", receipt.position) == [(1, "retried"), (2, "retried"), (3, "dead")]
    assert letter["r"] == "Retry: quota of the day; retry after 0 s" and letter["a"] == "3"


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"retry": {"after": "soon"}}, "TypeError: Retry(after=...) must be seconds or a timedelta, not 'soon'."),
        (
            {"retry": {"after": 1e12}},
            "ValueError: Retry(after=...) must be at most 1e+09 seconds, not 1000000000000.0.",
        ),
    ],
)
def test_a_wrong_time_fails_the_attempt_and_says_so(choosy: World, wish: dict[str, Any], reason: str) -> None:
    event = make("ONCE", **wish)

    publish(choosy, event)

    assert wait_until(lambda: choosy.dead("Once", event), 30, f"the letter; {choosy.log()}")[0]["r"] == reason


@pytest.mark.parametrize("reason", [404, None, ["a", "list"], "tab\tand\nnewline"])
def test_a_reason_that_is_no_text_settles_all_the_same(choosy: World, reason: object) -> None:
    [receipt] = publish(choosy, make("ONCE", discard=reason))
    choosy.until_settled("Once")

    [(_, _, state, error)] = choosy.outcomes("Once", receipt.position)
    assert (state, error) == ("discarded", " ".join(str(reason).split()))


# crashes


@pytest.mark.parametrize(("name", "most"), [("Once", 1), ("Twice", 2)])
def test_a_crash_in_the_last_attempt_is_a_dead_letter_and_not_another_start(world: World, name: str, most: int) -> None:
    world.start_fleet(1, app=APP)
    event = make(name.upper(), kill=most)

    [receipt] = publish(world, event)
    letter = wait_until(lambda: world.dead(name), 60, f"the letter; {world.log()}")[0]

    assert letter["r"] == (
        f"Not started again: max_attempts={most} are used up, and the last one's worker died, or fell silent, "
        "while it held the delivery."
    )
    assert world.runs(name) == {event.event_id: most}
    assert attempts(world, name, receipt.position)[-2:] == [(most, "lost"), (most + 1, "dead")]
    world.until_settled(name)


def test_a_delivery_that_killed_three_workers_says_so_also_when_its_attempts_are_used_up(world: World) -> None:
    world.start_fleet(1, app=APP)
    event = make("THRICE", kill=1)

    publish(world, event)
    letter = wait_until(lambda: world.dead("Thrice"), 60, f"the letter; {world.log()}")[0]

    assert letter["r"].startswith("It killed its worker three times")
    assert world.runs("Thrice") == {event.event_id: 3}


def test_a_delivery_beyond_a_limit_that_was_lowered_is_not_started_again(world: World) -> None:
    fleet = world.start_fleet(1, app=APP)
    delayed = world.keys("delayed", "Lowered")
    event = make("LOWERED", retry={"after": 3600})
    publish(world, event)
    [frame] = wait_until(lambda: world.redis.zrange(delayed, 0, -1), 20, "the retry to wait")
    fleet.terminate()
    fleet.wait(20)

    world.redis.zadd(delayed, {frame: 0})
    world.start_fleet(1, app=APP, LOWERED_TO="1")
    letter = wait_until(lambda: world.dead("Lowered"), 30, f"the letter; {world.log()}")[0]

    assert "max_attempts=1 are used up, and max_attempts was lowered since" in letter["r"]
    assert world.runs("Lowered") == {event.event_id: 1}


# time limits


def test_a_handler_over_its_limit_is_stopped_cleans_up_and_is_tried_again(choosy: World) -> None:
    event = make("SLOW")
    names = ("Clean", "CleanAsync", "CleanGenerator")

    [receipt] = publish(choosy, event)
    choosy.until_settled(*names, "Unhurried")

    for name in names:
        assert [outcome[1:] for outcome in choosy.outcomes(name, receipt.position)] == [
            (1, "retried", "TimeLimitExceeded: the handler ran longer than 1 s"), (2, "done", ""),
        ]  # fmt: skip
        assert choosy.runs(name, "cleaned", of=[event]).total() == 2
    assert choosy.runs("Unhurried", "finished", of=[event]).total() == 1, "its own limit is longer"
    caused = [r for r in choosy.backend.history.after(receipt.position, 100).events if r.causation_id == event.event_id]
    assert [recorded.payload["attempt"] for recorded in caused] == [2]


def test_a_handler_that_swallows_its_cancellation_once_is_cancelled_again(choosy: World) -> None:
    event = make("STUBBORN")

    [receipt] = publish(choosy, event)
    choosy.until_settled("Stubborn")

    assert attempts(choosy, "Stubborn", receipt.position) == [(1, "retried"), (2, "done")]
    assert choosy.runs("Stubborn", "swallowed", of=[event]).total() == 1
    assert choosy.runs("Stubborn", "finished", of=[event]).total() == 1


def test_what_a_handler_returns_after_its_limit_counts(choosy: World) -> None:
    event = make("GRACEFUL")

    [receipt] = publish(choosy, event)
    choosy.until_settled("Graceful", "GracefulPlain")

    for name in ("Graceful", "GracefulPlain"):
        assert attempts(choosy, name, receipt.position) == [(1, "done")]
        assert choosy.runs(name, "swallowed", of=[event]).total() == 1
    caused = [r for r in choosy.backend.history.after(receipt.position, 100).events if r.causation_id == event.event_id]
    assert [recorded.payload for recorded in caused] == [{"partial": True}] * 2


def test_a_time_limit_is_an_error_that_retry_on_may_name(choosy: World) -> None:
    event = make("LATE")

    [receipt] = publish(choosy, event)
    choosy.until_settled("LateForgiven", "LateUnforgiven")

    assert attempts(choosy, "LateForgiven", receipt.position) == [(1, "retried"), (2, "done")]
    assert attempts(choosy, "LateUnforgiven", receipt.position) == [(1, "dead")]
    [letter] = choosy.dead("LateUnforgiven", event)
    assert "because retry_on does not name TimeLimitExceeded: TimeLimitExceeded: the handler ran" in letter["r"]
    assert "be_late_async" in letter["t"], "where the handler was"


def test_the_limit_holds_inside_an_application_too(world: World) -> None:
    bus = EventBus(world.settings)
    ended: list[str] = []

    @bus.subscriber("InApp", ["IN_APP"], time_limit=0.3, max_attempts=1)
    def handle(event: Event) -> None:
        try:
            wait_until(lambda: False, 30)
        finally:
            ended.append("plain")

    @bus.subscriber("InAppAsync", ["IN_APP"], time_limit=0.3, max_attempts=1)
    async def handle_async(event: Event) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("async")

    async def scenario() -> None:
        await bus.start_consuming(archive=False)
        await bus.publish(make("IN_APP"))
        await asyncio.to_thread(wait_until, lambda: world.dead("InApp") and world.dead("InAppAsync"), 20, "both")
        await bus.disconnect()

    asyncio.run(scenario())

    assert sorted(ended) == ["async", "plain"]
    for name in ("InApp", "InAppAsync"):
        assert world.dead(name)[0]["r"] == "TimeLimitExceeded: the handler ran longer than 0.3 s"
