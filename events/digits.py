"""Whole numbers in bytes and texts that anybody may have written."""

from __future__ import annotations

MAX_DIGITS = 18
"""More than a position has; Python refuses to read thousands of digits, SQL to keep more than these."""


def whole(text: bytes | str | None) -> int | None:
    """Return the number that plain digits say; None of anything else, and of more than `MAX_DIGITS`."""
    is_number = text and len(text) <= MAX_DIGITS and text.isascii() and text.isdigit()
    return int(text) if text and is_number else None
