"""A line of blocks: what is high, what is nothing, and how much finds room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from console.sparkline import grain_for, sparkline, timeline
from store.numbers import BucketStatistics, EventNumbers

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def buckets(counts: dict[int, int], width: timedelta = timedelta(hours=1)) -> list[BucketStatistics]:
    return [BucketStatistics(start=NOON + n * width, count=count) for n, count in counts.items()]


def test_the_highest_is_full_the_least_is_seen_and_nothing_is_a_dot() -> None:
    assert sparkline([0, 1, 500, 1000, 0]) == "·▁▄█·"
    assert sparkline([7, 7]) == "██"
    assert sparkline(list(range(1, 9))) == "▁▂▃▄▅▆▇█"
    assert sparkline([10**30, 1]) == "█▁"
    assert sparkline([]) == ""


def test_a_line_shows_gaps_and_where_it_begins_and_ends() -> None:
    line = timeline(buckets({0: 4, 3: 8}), "hour")

    assert line == "Events by hour (UTC)  2024-05-01 12:00  ▄··█  2024-05-01 15:00"


def test_one_bucket_is_no_line() -> None:
    assert timeline(buckets({0: 4}), "hour") == timeline([], "day") == ""


def test_a_long_time_shares_blocks_and_a_far_outlier_costs_nothing() -> None:
    day = timedelta(days=1)
    line = timeline(buckets({0: 1, 1: 1, 119: 4}, day), "day")
    far = timeline([BucketStatistics(start=datetime(1, 1, 1, tzinfo=UTC), count=1), *buckets({0: 1})], "day")

    assert line == f"Events by 2 days (UTC)  2024-05-01  ▄{'·' * 58}█  2024-08-28"
    assert len(far) < 120


def test_hours_are_shown_while_they_find_room() -> None:
    def spanning(hours: int) -> EventNumbers:
        return EventNumbers(count=2, first_time=NOON, last_time=NOON + timedelta(hours=hours))

    assert (grain_for(spanning(59)), grain_for(spanning(60)), grain_for(EventNumbers())) == ("hour", "day", "day")
