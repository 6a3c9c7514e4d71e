"""Files of lines: read whole, and gone on with wherever a writer was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.errors import InvalidImport
from store.line_files import LineWriter, read_lines

PAGES = [["a", "b" * 200_000], ["é 🦊"], ["", "last"]]


def write(path: Path, pages: list[list[str]], *, resume: bool = False) -> bytes | None:
    with LineWriter(path, resume=resume) as writer:
        for page in pages:
            writer.write(page)
        return writer.last


def read(path: Path) -> list[str]:
    return [line.decode() for line in read_lines(path)]


@pytest.fixture(params=["lines.jsonl", "lines.jsonl.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_pages_are_read_as_they_were_written_and_gone_on_with(path: Path) -> None:
    write(path, PAGES[:2])

    assert write(path, PAGES[2:], resume=True) == "é 🦊".encode()
    assert write(path, [], resume=True) == b"last"
    assert read(path) == [line for page in PAGES for line in page]


@pytest.mark.parametrize("lost", [1, 3, 20, 100])
def test_a_file_that_was_cut_off_is_whole_up_to_a_page_and_goes_on(path: Path, lost: int) -> None:
    write(path, [[f"{page}-{n}" for n in range(50)] for page in range(3)])
    path.write_bytes(path.read_bytes()[:-lost])

    last = write(path, [], resume=True)
    assert last is not None
    page, number = map(int, last.decode().split("-"))
    assert page in (1, 2)
    write(path, [["new"]], resume=True)

    lines = [f"{p}-{n}" for p in range(3) for n in range(50)]
    assert read(path) == [*lines[: page * 50 + number + 1], "new"]


def test_a_file_that_is_there_is_not_written_over(path: Path) -> None:
    write(path, PAGES)

    with pytest.raises(FileExistsError):
        LineWriter(path)
    assert read(path) == [line for page in PAGES for line in page]


def test_a_new_or_empty_file_can_be_gone_on_with_and_one_without_anything_whole_cannot(path: Path) -> None:
    assert write(path, [], resume=True) is None
    assert write(path, [["a"]], resume=True) is None
    path.write_bytes(b"\x1f\x8b no newline, no gzip")

    with pytest.raises(InvalidImport, match=r"Nothing in .* is whole"):
        LineWriter(path, resume=True)
    assert path.read_bytes().startswith(b"\x1f\x8b no"), "and it is left alone"


def test_damaged_compressed_data_is_told_after_every_line_before(tmp_path: Path) -> None:
    path = tmp_path / "lines.gz"
    write(path, [["a"], ["b" * 1000]])
    path.write_bytes(path.read_bytes()[:-5])
    lines = read_lines(path)

    assert next(lines) == b"a"
    with pytest.raises(InvalidImport, match="damaged or ends too early"):
        list(lines)
