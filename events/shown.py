"""Values of others in messages: `repr` cut short, of values too that have none."""

from __future__ import annotations


def shown(value: object, chars: int = 80) -> str:
    """Return what a value looks like, at most so many characters; of one that cannot be shown, its kind."""
    try:
        return repr(value)[:chars]
    except Exception:  # a whole number of more than 4,300 digits, and whatever an object's own code raises
        return f"a {type(value).__name__} that cannot be shown"
