"""Files of lines, plain or gzip by their name: read to their end, or gone on with where a writer was stopped.

A page of lines is appended at once; with gzip it is a member of its own, so that a file that was cut off anywhere
is whole up to its last page.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from events.errors import InvalidImport

_BLOCK = 1 << 16


class LineWriter:
    """Appends pages of lines to a file; use it as a context manager.

    Args:
        path: ends in `.gz` for gzip.
        resume: go on with a file that is there: what is incomplete at its end is cut off.

    Attributes:
        last: the last whole line that the file had; None when it is new or had none.

    Raises:
        FileExistsError: it is there, and `resume` was not asked for.
        InvalidImport: nothing in it is whole.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._is_gzip = path.suffix == ".gz"
        self.last: bytes | None = None
        self._file: BinaryIO = path.open("r+b" if resume and path.exists() else "x+b")
        try:
            if resume:
                self._cut_off(path)
        except BaseException:
            self._file.close()
            raise

    def write(self, lines: Sequence[str]) -> None:
        """Append lines, given without their ends; what was appended survives the process."""
        text = "".join(f"{line}\n" for line in lines).encode()
        if text:
            self._file.write(gzip.compress(text, 6, mtime=0) if self._is_gzip else text)
            self._file.flush()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _cut_off(self, path: Path) -> None:
        end, last = _whole_members(self._file) if self._is_gzip else _whole_lines(self._file)
        size = self._file.seek(0, os.SEEK_END)
        if size and last is None:
            raise InvalidImport(f"Nothing in {path} is whole, so it cannot be gone on with: remove it, and begin anew.")
        self.last = last
        self._file.truncate(end)
        self._file.seek(end)


def read_lines(path: Path) -> Iterator[bytes]:
    """Iterate over the lines of a file, without their ends.

    Raises:
        InvalidImport: it is no gzip though its name says so, or ends in the middle of one; every line before was given.
        OSError: it cannot be read.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for line in file:
                yield line.rstrip(b"\r\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidImport(f"The compressed data of {path} is damaged or ends too early: {error}.") from None


def _whole_lines(file: BinaryIO) -> tuple[int, bytes | None]:
    """Return where the last whole line ends, and that line."""
    end = _newline_before(file, file.seek(0, os.SEEK_END))
    if end < 0:
        return 0, None
    start = _newline_before(file, end) + 1
    file.seek(start)
    return end + 1, file.read(end - start)


def _newline_before(file: BinaryIO, position: int) -> int:
    """Return the place of the last newline before a position; -1 when there is none."""
    while position > 0:
        start = max(0, position - _BLOCK)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found
        position = start
    return -1


def _whole_members(file: BinaryIO) -> tuple[int, bytes | None]:
    """Return where the last whole member ends, and its last line."""
    end, last = 0, None
    while (member := _member(file, end)) is not None:
        end, last = member
    return end, last


def _member(file: BinaryIO, start: int) -> tuple[int, bytes] | None:
    """Read a member; return its end and its last line, or None when it is not whole."""
    file.seek(start)
    decoder, end, tail = zlib.decompressobj(31), start, b""
    while not decoder.eof:
        block = file.read(_BLOCK)
        if not block:
            return None
        try:
            tail += decoder.decompress(block)
        except zlib.error:
            return None
        tail = tail[tail.rfind(b"\n", 0, len(tail.rstrip(b"\n"))) + 1 :]
        end += len(block)
    return end - len(decoder.unused_data), tail.rstrip(b"\n")
