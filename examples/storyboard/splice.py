"""Joining animated GIFs end to end without decoding a pixel; not a general GIF reader.

A GIF is a header, an optional global colour table, and blocks. A joined frame carries the colour
table of the film it came from as its local one. Source: the GIF89a specification, W3C.
"""

from __future__ import annotations

from collections.abc import Iterator

_LOOP_FOREVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_EXTENSION, _IMAGE, _TRAILER, _CONTROL = 0x21, 0x2C, 0x3B, 0xF9


def splice(films: list[bytes]) -> bytes:
    """Return one endless GIF that shows the films one after another; all must have one size.

    Raises:
        ValueError: there is no film, one is not a GIF, or their sizes differ.
    """
    if not films:
        raise ValueError("There is no film to join.")
    sizes = {film[6:10] for film in films}
    if len(sizes) > 1:
        raise ValueError("Films of different sizes cannot be joined.")
    parts = [b"GIF89a" + sizes.pop() + b"\x00\x00\x00", _LOOP_FOREVER]
    for film in films:
        parts.extend(_frames(film))
    return b"".join([*parts, bytes([_TRAILER])])


def _frames(film: bytes) -> Iterator[bytes]:
    """Give a film's blocks that belong to frames, each image with a colour table of its own."""
    if film[:6] not in (b"GIF87a", b"GIF89a"):
        raise ValueError("A film is not a GIF.")
    table_bits, at = film[10], 13
    table = b""
    if table_bits & 0x80:
        table = film[at : at + _table_size(table_bits)]
        at += len(table)
    while film[at] != _TRAILER:
        if film[at] == _EXTENSION:
            end = _after_blocks(film, at + 2)
            if film[at + 1] == _CONTROL:
                yield film[at:end]
        elif film[at] == _IMAGE:
            place, flags = film[at : at + 9], film[at + 9]
            own = _table_size(flags) if flags & 0x80 else 0
            end = _after_blocks(film, at + 10 + own + 1)
            if own:
                yield film[at:end]
            else:
                yield place + bytes([flags & 0x40 | 0x80 | table_bits & 0x07]) + table + film[at + 10 : end]
        else:
            raise ValueError(f"A film has an unknown block 0x{film[at]:02x} at byte {at}.")
        at = end


def _table_size(bits: int) -> int:
    return 3 * (2 << (bits & 0x07))


def _after_blocks(film: bytes, at: int) -> int:
    """Return where a chain of sub-blocks ends: each says its length, the last one is 0."""
    while film[at]:
        at += film[at] + 1
    return at + 1
