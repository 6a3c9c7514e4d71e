"""Which moments a cron names: clocks that jump, stretches that were missed, texts that nobody can read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidSchedule
from workers.cron import Cron
from workers.schedules import GRACE, MAX_MISSED, make_schedule

RIGA = "Europe/Riga"
ZONES = ["UTC", RIGA, "America/New_York", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia"]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(cron: Cron, after: datetime, until: datetime) -> list[datetime]:
    """Every moment of the cron in a stretch, walked through from its beginning."""
    found, moment = [], after
    while (slot := cron.after(moment)) is not None and slot.astimezone(UTC) <= until:
        found.append(slot.astimezone(UTC))
        moment = slot
    return found


# clocks that jump: in Riga 03:00 becomes 04:00 on 29 March 2026, and 04:00 becomes 03:00 on 25 October


def test_a_time_that_does_not_exist_is_the_first_moment_after_the_gap() -> None:
    cron = Cron("30 3 * * *", RIGA)

    assert slots(cron, utc("2026-03-28T00:00"), utc("2026-03-30T23:00")) == [
        utc("2026-03-28T01:30"), utc("2026-03-29T01:00"), utc("2026-03-30T00:30"),
    ]  # fmt: skip
    assert slots(Cron("10,50 3 * * *", RIGA), utc("2026-03-29T00:00"), utc("2026-03-29T23:00")) == [
        utc("2026-03-29T01:00")
    ], "all of the gap's times are one moment"


def test_of_a_time_that_exists_twice_the_first_one_counts() -> None:
    cron = Cron("30 3 * * *", RIGA)

    assert slots(cron, utc("2026-10-24T00:00"), utc("2026-10-26T23:00")) == [
        utc("2026-10-24T00:30"), utc("2026-10-25T00:30"), utc("2026-10-26T01:30"),
    ]  # fmt: skip
    second_half_past_three = utc("2026-10-25T01:30")
    assert cron.after(second_half_past_three - timedelta(seconds=1)) == utc("2026-10-26T01:30")


def test_a_cron_without_a_fixed_hour_follows_the_time_that_passes() -> None:
    quarters = Cron("*/30 * * * *", RIGA)

    gap = [
        slot.astimezone(ZoneInfo(RIGA)) for slot in slots(quarters, utc("2026-03-29T00:15"), utc("2026-03-29T01:45"))
    ]
    twice = [
        slot.astimezone(ZoneInfo(RIGA)) for slot in slots(quarters, utc("2026-10-25T00:15"), utc("2026-10-25T02:15"))
    ]

    assert [f"{slot:%H:%M}" for slot in gap] == ["02:30", "04:00", "04:30"]
    assert [f"{slot:%H:%M}/{slot.fold}" for slot in twice] == ["03:30/0", "03:00/1", "03:30/1", "04:00/0"]


def test_a_cron_of_six_fields_begins_with_seconds() -> None:
    cron = Cron("*/20 * * * * *", "UTC")

    assert slots(cron, utc("2026-01-01T00:00"), utc("2026-01-01T00:01")) == [
        utc("2026-01-01T00:00:20"), utc("2026-01-01T00:00:40"), utc("2026-01-01T00:01:00"),
    ]  # fmt: skip


# properties

FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/7", "*", "5-50/9", "59"]),
    st.sampled_from(["*", "*/2", "0", "2", "2-3", "1,23", "3"]),
    st.sampled_from(["*", "1", "13", "L", "*/10"]),
    st.sampled_from(["*", "3", "10-11", "*/3"]),
    st.sampled_from(["*", "SUN", "1-5", "MON#2", "5L"]),
)
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(fields=FIELDS, zone=st.sampled_from(ZONES), moment=MOMENTS, part=st.floats(0, 1, exclude_max=True))
def test_from_wherever_one_looks_the_next_moment_is_the_same(
    fields: tuple[str, ...], zone: str, moment: datetime, part: float
) -> None:
    cron = Cron(" ".join(fields), zone)
    slot = cron.after(moment)
    assert slot is not None and slot.astimezone(UTC) > moment

    between = min(moment + (slot.astimezone(UTC) - moment) * part, slot.astimezone(UTC) - timedelta(microseconds=1))

    assert cron.after(between) == slot
    following = cron.after(slot)
    assert following is not None and following.astimezone(UTC) > slot.astimezone(UTC)


@given(
    minute=st.sampled_from(["*", "*/7"]),
    hour=st.sampled_from(["*", "*/2", "2-3"]),
    zone=st.sampled_from(ZONES),
    moment=MOMENTS,
)
def test_a_cron_that_follows_time_names_exactly_the_minutes_whose_clock_reads_so(
    minute: str, hour: str, zone: str, moment: datetime
) -> None:
    moment = moment.replace(second=0, microsecond=0)
    minutes = range(0, 60, 7) if minute == "*/7" else range(60)
    hours = {"*": range(24), "*/2": range(0, 24, 2), "2-3": range(2, 4)}[hour]
    clock = [moment + timedelta(minutes=n) for n in range(1, 26 * 60)]
    read = [(one, one.astimezone(ZoneInfo(zone))) for one in clock]

    found = slots(Cron(f"{minute} {hour} * * *", zone), moment, clock[-1])

    assert found == [one for one, local in read if local.minute in minutes and local.hour in hours]


@given(fields=FIELDS, zone=st.sampled_from(ZONES), until=MOMENTS, hours=st.integers(0, 100), most=st.integers(1, 40))
def test_the_latest_moments_of_a_stretch_are_the_end_of_all_of_them(
    fields: tuple[str, ...], zone: str, until: datetime, hours: int, most: int
) -> None:
    cron = Cron(" ".join(fields), zone)
    after = until - timedelta(hours=hours)

    assert cron.latest(after, until, most) == slots(cron, after, until)[-most:]


@given(
    text=st.one_of(st.text(max_size=30), st.text(alphabet="0123456789*/,-#LWSUNMON ", max_size=20)),
    zone=st.text(max_size=12),
)
def test_any_text_is_a_cron_or_an_invalid_schedule(text: str, zone: str) -> None:
    for given_text, given_zone in ((text, "UTC"), ("* * * * *", zone)):
        try:
            cron = Cron(given_text, given_zone)
        except InvalidSchedule as error:
            assert str(error).endswith((".", "..."))
        else:
            assert cron.after(utc("2026-01-01T00:00")) is not None


def test_a_year_of_missed_seconds_is_not_walked_through() -> None:
    cron = Cron("* * * * * *", "UTC")
    until = utc("2026-01-01T00:00")

    found = cron.latest(until - timedelta(days=365), until, 1001)

    assert len(found) == 1001 and found[-1] == until
    assert found == [until - timedelta(seconds=1000 - n) for n in range(1001)]


# what is wrong is said at once


@pytest.mark.parametrize(
    ("cron", "timezone", "sentence"),
    [
        ("61 * * * *", "UTC", r"'61 \* \* \* \*' cannot be read \(Bad minute\): write minute hour"),
        ("@daily", "UTC", "cannot be read"),
        (None, "UTC", "must be a string"),
        ("0 0 30 2 *", "UTC", "cannot be read"),
        ("* * */20 * 1L", "UTC", "names no moment of the next 50 years"),
        ("0 3 * * *", "Mars/Olympus", "timezone 'Mars/Olympus' is not known: write an IANA name"),
        ("0 3 * * *", "../etc", "is not known"),
        ("0 3 * * *", 3, "is not known"),
    ],
)
def test_a_cron_or_timezone_that_cannot_be_read_is_named(cron: object, timezone: object, sentence: str) -> None:
    with pytest.raises(InvalidSchedule, match=sentence):
        Cron(cron, timezone)  # type: ignore[arg-type]


def nothing(slot: datetime) -> None:
    return None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"factory": 3}, "factory must be callable with a datetime, not 3"),
        ({"factory": lambda slot: None}, "not '<lambda>': give name="),
        ({"name": "two words"}, "not 'two words'"),
        ({"name": ""}, "not ''"),
        ({"missed": "some"}, "missed must be 'last', 'all' or 'skip', not 'some'"),
    ],
)
def test_a_schedule_that_cannot_be_is_named(changed: dict[str, object], sentence: str) -> None:
    asked = {"cron": "* * * * *", "factory": nothing, "name": None, "timezone": "UTC", "missed": "last", **changed}
    with pytest.raises(InvalidSchedule, match=sentence):
        make_schedule(**asked)  # type: ignore[arg-type]


def test_a_schedule_is_named_after_its_factory() -> None:
    assert make_schedule("* * * * *", nothing, None, "UTC", "last").name == "nothing"


# what was missed


def test_each_policy_keeps_of_what_was_missed_what_it_says() -> None:
    now = utc("2026-01-01T12:00:30")
    cursor = now - timedelta(hours=3)

    def due(missed: str, cron: str = "*/30 * * * *") -> list[datetime]:
        return make_schedule(cron, nothing, None, "UTC", missed).due(cursor, now)

    assert due("last") == [utc("2026-01-01T12:00")]
    assert due("all") == [utc("2026-01-01T09:30") + timedelta(minutes=30 * n) for n in range(6)]
    assert due("skip") == [utc("2026-01-01T12:00")], "half a minute late"
    assert due("skip", "59 * * * *") == [], f"over {GRACE} late"
    assert len(due("skip", "* * * * * *")) == 60
    assert len(due("all", "* * * * * *")) == MAX_MISSED + 1


def test_nothing_is_due_before_the_cursor_however_the_clock_is_set() -> None:
    schedule = make_schedule("* * * * *", nothing, None, "UTC", "all")
    cursor = utc("2026-01-01T12:00")

    assert schedule.due(cursor, cursor) == []
    assert schedule.due(cursor, cursor - timedelta(hours=1)) == []
    assert schedule.due(cursor, cursor + timedelta(minutes=2)) == [cursor + timedelta(minutes=n) for n in (1, 2)]
