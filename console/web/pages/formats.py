"""How values are written on a page: as on the command line, and a few more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from console import wording
from console.web.pages.outline import outlined

NOTHING = "–"
MOST_CURRENCY = 8


def count(value: float | None) -> str:
    """Write a count: `1,234`; nothing is a dash."""
    return NOTHING if value is None else f"{value:,}"


def money(by_currency: Mapping[str, float] | None) -> str:
    """Write sums by currency."""
    return wording.sums({_code(name): amount for name, amount in by_currency.items()}) if by_currency else NOTHING


def seconds(value: float | None) -> str:
    """Write a duration given in seconds, without the tenths of what is longer than ten of them."""
    if value is None:
        return NOTHING
    if 10 <= value < 60:
        return f"{value:.0f} s"
    if 60 <= value < 120:
        return f"1 min {value - 60:.0f} s"
    return wording.duration(value * 1000)


def milliseconds(value: float | None) -> str:
    """Write a duration given in milliseconds."""
    return NOTHING if value is None else wording.duration(value)


def instant(value: Any) -> datetime | None:
    """Return a moment in UTC, given as a moment, as ISO 8601 or as seconds since 1970."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC)


def clock(value: Any) -> str:
    """Write a moment's date and time in UTC, to the second."""
    found = instant(value)
    return found.strftime("%Y-%m-%d %H:%M:%S") if found else NOTHING


def exact(value: Any) -> str:
    """Write a moment in UTC to the millisecond."""
    return wording.moment(instant(value)) or NOTHING


def iso(value: Any) -> str:
    """Write a moment for machines."""
    found = instant(value)
    return found.isoformat() if found else ""


def link(path: str, **parameters: Any) -> str:
    """Return the address of a page with its parameters; those that say nothing are left out."""
    kept = {name: value for name, value in parameters.items() if value not in (None, "", [], False)}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path


def part(text: str) -> str:
    """Write a part of a path of the API."""
    return quote(text, safe="")


def age(value: Any) -> str:
    """Write how long ago a moment was, coarsely: `12 s`, `4 min`, `3 h`, `2 d`."""
    found = instant(value)
    if found is None:
        return NOTHING
    passed = max(0, int((datetime.now(UTC) - found).total_seconds()))
    for most, unit_s, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if passed < most:
            return f"{passed // unit_s} {unit}"
    return f"{passed // 86_400} d"


def cost(value: Any, currency: Any = None) -> str:
    """Write what one event cost; metadata may hold anything there."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return wording.money(value, _code(currency) if isinstance(currency, str) else None) if is_number else NOTHING


def _code(currency: str) -> str:
    """Write a currency: a code of a few letters, but metadata may hold anything there."""
    return currency if len(currency) <= MOST_CURRENCY else f"{currency[: MOST_CURRENCY - 1]}…"


def latency(value: Any) -> str:
    """Write how long one event took; metadata may hold anything there."""
    return wording.duration(value) if isinstance(value, int | float) and not isinstance(value, bool) else NOTHING


def plain(value: float | None) -> str:
    """Write a limit: `5`, `0.5`."""
    return "" if value is None else f"{value:g}"


def several(value: Any) -> list[str]:
    """Return the values of a parameter, which may be one, several, or none (the empty text)."""
    return list(value) if isinstance(value, list) else [value] if value else []


def listed(value: Any) -> str:
    """Write the values of a parameter as one field shows them: `A, B`."""
    return ", ".join(several(value))


def jsontext(value: Any) -> str:
    """Write a value as JSON on one line; it is escaped like any text."""
    return json.dumps(value, ensure_ascii=False)


def slug(text: str) -> str:
    """Write a heading as the name of a place on the page."""
    return "-".join(text.lower().split())


def schema(described: Mapping[str, Any]) -> str:
    """Write a schema's name as it is read: `EventShape`, `NewEvent[]`, `string`."""
    if "$ref" in described:
        return str(described["$ref"]).rpartition("/")[2]
    if described.get("type") == "array":
        return f"{schema(described.get('items', {}))}[]"
    if "anyOf" in described:
        return " | ".join(map(schema, described["anyOf"]))
    if "enum" in described:
        return " | ".join(map(str, described["enum"]))
    return str(described.get("type", described.get("const", "any")))


def percent(part: float, whole: float) -> str:
    """Write a share of a whole for a drawing: `12.345%`."""
    return f"{100 * part / whole:.3f}%" if whole else "0%"


FILTERS = {
    "count": count,
    "money": money,
    "seconds": seconds,
    "milliseconds": milliseconds,
    "clock": clock,
    "exact": exact,
    "iso": iso,
    "age": age,
    "cost": cost,
    "latency": latency,
    "plain": plain,
    "jsontext": jsontext,
    "several": several,
    "listed": listed,
    "slug": slug,
    "schema": schema,
    "outlined": outlined,
    "part": part,
}
