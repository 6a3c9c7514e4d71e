"""What the console says, in every language that it speaks: one catalogue file a language, in `static/words`.

The browser reads the same files. A text is found by its key; `{name}` in it is a value, which is text, never HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

WORDS = Path(__file__).parent.parent / "static" / "words"
# By the code that a browser asks with; the first is what others get.
LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
DEFAULT = "en"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return all texts of a language, by their keys."""
    return json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def say(language: str, key: str, /, **values: object) -> str:
    """Return a text with its values; of `key.one` instead, if there is one and `count` is 1.

    Raises:
        KeyError: no catalogue has the key; a test finds those.
    """
    texts = catalogue(language)
    if values.get("count") in (1, "1") and f"{key}.one" in texts:
        key = f"{key}.one"
    shown = {name: f"{value:,}" if isinstance(value, int) else value for name, value in values.items()}
    return texts[key].format(**shown) if shown else texts[key]


def has(language: str, key: str) -> bool:
    """Tell whether a language has a text."""
    return key in catalogue(language)


def negotiated(chosen: str | None, accepted: str) -> str:
    """Return the language to speak: the one chosen, else the first that a browser accepts, else English.

    Args:
        accepted: an `Accept-Language` header. Source: RFC 9110, section 12.5.4.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    weighed = []
    for place, part in enumerate(accepted.split(",")[:30]):
        tag, _, parameter = part.strip().partition(";")
        code = tag.strip().lower().partition("-")[0]
        if code in LANGUAGES:
            weighed.append((-_weight(parameter), place, code))
    return min(weighed)[2] if weighed else DEFAULT


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name == "q" else 1.0
    except ValueError:
        return 0.0
