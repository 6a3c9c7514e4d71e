"""Damage: strategies of Hypothesis that turn good bytes into bad ones, and say bytes that nobody expects."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

# What has broken readers elsewhere: limits of numbers, text that is none, nesting, control characters.
TOKENS = [
    b"", b"\0", b"\n", b"\t", b"\x1e", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80",
    "\u202e".encode(), "\u0663".encode(), b"\\ud800", b"\\u0000",
    b"NaN", b"-Infinity", b"1e999", b"1.7638e+15", b"-0.0", b"1e-400", b"-1", b"0", b"1_000", b" 5 ", b"+5", b"0x10",
    b"9" * 19, b"9" * 400, b"9" * 5000, b"18446744073709551615", b"9007199254740993",
    b"null", b"true", b"[]", b"{}", b'""', b'{"a":1,"a":2}', b'"self":1,', b"[" * 300, b"[" * 100_000, b'{"a":' * 2000,
    b"[" * 500 + b"]" * 500, b'{"a":' * 800 + b"1" + b"}" * 800,
    b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"2026-02-30", b"24:00", b"1-", b"*/0", b"L", b"*",
    b"%", b"%00", b"%ff", b"@", b"://", b"?", b"#", b"[::1", b"]", b"=", b"?password=x",
    b"..", b"/", b"\\", b"../../etc/passwd", b"x" * 70_000,
]  # fmt: skip
# A scalar of JSON, a field of a header, a part of a URL or of a cron text.
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\t\n\x1e{}\[\],:/?&=|@ ]+')
_WHERE = st.integers(0, 1 << 16)


def damaged(examples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy: an example with up to six wounds, tokens strung together, or bytes as they come."""
    wounds = st.lists(
        st.tuples(
            st.sampled_from(("value", "value", "value", "cut", "drop", "put", "twice", "flip")), _WHERE, _WHERE, _TOKEN
        ),
        max_size=6,
    )
    kinds = [st.binary(max_size=300), st.lists(_TOKEN, max_size=5).map(b"".join)]
    if examples:
        wounded = st.builds(_wounded, st.sampled_from(list(examples)), wounds)
        kinds = [wounded, wounded, wounded, *kinds]
    return st.one_of(kinds)


def each_value_replaced(example: bytes) -> Iterator[bytes]:
    """Iterate over an example with one of its values replaced by one of the tokens, every one by every one."""
    for there in _VALUE.finditer(example):
        for token in TOKENS:
            yield example[: there.start()] + token + example[there.end() :]


def packed() -> st.SearchStrategy[bytes]:
    """Return a strategy of gzip members, whole, damaged and strung together."""
    member = st.binary(max_size=200).map(lambda data: gzip.compress(data, mtime=0))
    return st.one_of(
        st.lists(member, max_size=3).map(b"".join), damaged([gzip.compress(b'{"position":5}\n' * 40, mtime=0)])
    )


_TOKEN = st.sampled_from(TOKENS)


def _wounded(data: bytes, wounds: list[tuple[str, int, int, bytes]]) -> bytes:
    for how, first, second, token in wounds:
        start, length = first % (len(data) + 1), second % 24
        if how == "value" and (values := list(_VALUE.finditer(data))):
            there = values[first % len(values)]
            data = data[: there.start()] + token + data[there.end() :]
        elif how == "cut":
            data = data[:start]
        elif how == "drop":
            data = data[:start] + data[start + length :]
        elif how == "put":
            data = data[:start] + token + data[start + length % 3 :]
        elif how == "twice":
            data = data[: start + length] + data[start:]
        elif data:
            place = first % len(data)
            data = data[:place] + bytes([data[place] ^ (1 << second % 8)]) + data[place + 1 :]
    return data
