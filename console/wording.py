"""How numbers and moments are written for people; JSON gets them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_LAST_MOMENT = 253_402_300_799_999_999


def money(amount: float | None, currency: object = None) -> str:
    """Write an amount: `$0.04`, two to four places, six below a cent; `0.50 EUR` where it is not US dollars."""
    if amount is None:
        return ""
    whole, _, places = (f"{amount:,.6f}" if amount < 0.01 else f"{amount:,.4f}").partition(".")
    text = f"{whole}.{places.rstrip('0').ljust(2, '0')}"
    return f"${text}" if currency in (None, "", "USD") else f"{text} {currency}"


def sums(by_currency: Mapping[str, float]) -> str:
    """Write amounts in several currencies: they are not added up."""
    return " + ".join(money(amount, currency) for currency, amount in by_currency.items())


def duration(milliseconds: float | None) -> str:
    """Write a duration with the unit that suits it: `3.2 ms`, `850 ms`, `12.4 s`, `3 min 20 s`."""
    if milliseconds is None:
        return ""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(when: datetime | None) -> str:
    """Write a moment in UTC to the millisecond."""
    if when is None:
        return ""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def instant(when: datetime) -> str:
    """Write a moment for machines, as the HTTP API does: ISO 8601, UTC, with `Z`."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def at(position: int) -> datetime:
    """Return the moment of a position, which is the server's microseconds since 1970; at most the last there is."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=min(position, _LAST_MOMENT))


def size(size_bytes: int) -> str:
    """Write a number of bytes: `812 B`, `14.2 kB`, `3.1 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:.1f} MB"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Write a count with its noun: `1 event`, `2 events`, `3 deliveries`."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
