"""Percentiles from bins: how far off, and the same whatever the order."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from store.bins import Durations, bin_of, middle_of

LONGEST_US = 10**15
A_DURATION = st.integers(0, 300) | st.integers(0, LONGEST_US)


@given(A_DURATION)
def test_a_bin_is_less_than_one_part_in_128_off(duration_us):
    middle = middle_of(bin_of(duration_us))

    assert bin_of(middle) == bin_of(duration_us)
    assert abs(middle - duration_us) * 128 < max(duration_us, 1)


@given(A_DURATION)
def test_a_longer_duration_has_no_lower_bin(duration_us):
    assert bin_of(duration_us) <= bin_of(duration_us + 1) <= bin_of(duration_us) + 1


@given(st.lists(A_DURATION, min_size=1), st.sampled_from([1, 50, 95, 99, 100]), st.randoms())
def test_percentiles_are_near_the_exact_ones_in_any_order_and_in_parts(durations, percent, chance):
    whole, parts = Durations(), [Durations(), Durations()]
    for duration in durations:
        whole.add(duration)
    for duration in chance.sample(durations, len(durations)):
        chance.choice(parts).add(duration)
    parts[0].merge(parts[1])

    exact = sorted(durations)[math.ceil(len(durations) * percent / 100) - 1]
    read = round(whole.percentiles_ms(percent)[0] * 1000)

    assert parts[0] == whole and whole.count == len(durations)
    assert abs(read - exact) * 128 < max(exact, 1)


def test_what_is_taken_away_leaves_nothing_behind():
    durations = [random.Random(1).randrange(LONGEST_US) for _ in range(50)]
    found = Durations()
    for duration in durations:
        found.add(duration)
        found.add(duration, -1)

    assert found == Durations()
    assert (found.average_ms, found.percentiles_ms(50, 95)) == (None, [None, None])
