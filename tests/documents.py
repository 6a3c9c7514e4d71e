"""The documents of this repository, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
FILES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
# What a reader follows from top to bottom: here commands run too, and answer as shown.
FOLLOWED = [
    *READMES,
    *(ROOT / "docs" / f"{name}.md" for name in ("tutorial", "http_api", "operations", "payload_schemas", "retention")),
    *sorted((ROOT / "docs" / "how_to").glob("*.md")),
]
# Documents whose commands are only parsed: no test can run them.
UNRUN = {
    "README.md": "`.ci/run` runs the first two; the others install packages and run this suite",
    "README.zh-CN.md": "the same commands",
    "docs/chaos.md": "minutes to hours each; `.ci/run` runs the fixed seeds",
    "docs/deploy.md": "hosts, Docker and ports of the reader's own; `tests/hosting` runs the Procfile",
    "docs/performance.md": "long ones, on a machine that does nothing else",
    "docs/reliability.md": "minutes; the table is what it has printed",
    "docs/testing.md": "they run this suite",
}
ONLY_COMPILED = "# not run:"


@dataclass(frozen=True)
class Block:
    """A fenced block, its language in lower case.

    Attributes:
        line: of its fence.
        notes: what the HTML comments right above it say, e.g. `file: Procfile`; readers do not see them.
    """

    file: str
    line: int
    language: str
    code: str
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def note(self, name: str) -> str | None:
        """Return what a note says after its name; an empty text when it says no more."""
        for note in self.notes:
            word, _, rest = note.partition(":")
            if word.strip() == name:
                return rest.strip()
        return None


def blocks_of(text: str, file: str) -> list[Block]:
    found: list[Block] = []
    start, fence, language, indent = 0, "", "", 0
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        opening = re.match(r"( *)(```+|~~~+) *([\w+-]*)", line)
        if not fence and opening:
            start, fence, language, indent = number, opening[2], opening[3].lower(), len(opening[1])
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            code = "\n".join(inner[indent:] for inner in lines[start : number - 1]) + "\n"
            found.append(Block(file, start, language, code, _notes(lines[: start - 1])))
            fence = ""
    assert not fence, f"{file}:{start}: the block is not closed"
    return found


def _notes(above: list[str]) -> tuple[str, ...]:
    notes: list[str] = []
    for line in reversed([line.strip() for line in above if line.strip()]):
        if not (note := re.fullmatch(r"<!-- (.*) -->", line)):
            break
        notes.insert(0, note[1])
    return tuple(notes)


def prose_of(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^( *)(```+).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)


def links_of(text: str) -> list[str]:
    """Return where the links of a document lead, in its order."""
    return re.findall(r"\]\(([^)\s]+)\)", prose_of(text))


BLOCKS = [block for path in FILES for block in blocks_of(path.read_text(), str(path.relative_to(ROOT)))]
