"""A project's desk: the folder that its agents share, whichever process they run in.

Everything here may happen twice: files are written whole or not at all, under names that depend
only on the project and its shots, so that doing it again changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from events import Event


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a project's files are.

    Attributes:
        out_dir: the folder of the finished work, absolute; of this project alone.
        key: names the folder below `work/` that holds what the agents hand to each other.
    """

    out_dir: str
    key: str

    @classmethod
    def laid_out(cls, out_dir: str, project_id: str, title: str, text: str) -> Self:
        """Return the desk of a project; another story gets another one."""
        words = re.sub(r"[^a-z0-9]+", "-", title.lower().encode("ascii", "ignore").decode()).strip("-")
        mark = hashlib.sha256("\0".join((project_id, title, text)).encode()).hexdigest()[:10]
        return cls(out_dir, f"{words[:40].strip('-') or 'story'}-{mark}")

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return the desk that an event's payload speaks of."""
        return cls(str(event.payload["out_dir"]), str(event.payload["desk"]))

    def as_payload(self) -> dict[str, Any]:
        return {"out_dir": self.out_dir, "desk": self.key}

    def pointer(self, name: str) -> str:
        """Return a file's blackboard pointer: its path below `out_dir`, the same on every system."""
        return f"work/{self.key}/{name}"

    def path(self, pointer: str) -> Path:
        """Return where a pointer points."""
        return Path(self.out_dir, *pointer.split("/"))

    def write(self, pointer: str, content: bytes) -> str:
        """Write a file whole or not at all, and return its pointer."""
        path = self.path(pointer)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            draft.write_bytes(content)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return pointer

    def write_json(self, pointer: str, value: Any) -> str:
        return self.write(pointer, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())

    def read(self, pointer: str) -> bytes:
        return self.path(pointer).read_bytes()

    def read_json(self, pointer: str) -> Any:
        return json.loads(self.read(pointer))


class Ledger:
    """The pieces that have reached the editor in one run of a project, kept as files.

    Safe because the editor handles one event of a project at a time (`ordering="project"`).

    Args:
        run: names the run; the pieces of an earlier one of the same project do not count.
    """

    def __init__(self, desk: Desk, run: str) -> None:
        self._desk = desk
        self._folder = desk.pointer(f"received/{hashlib.sha256(run.encode()).hexdigest()[:10]}")

    def enter(self, piece: str) -> None:
        """Note that a piece is here; noting it again changes nothing."""
        self._desk.write(f"{self._folder}/{piece}", b"")

    def has_all(self, pieces: list[str]) -> bool:
        """Tell whether every piece has been noted."""
        return all(self._desk.path(f"{self._folder}/{piece}").exists() for piece in pieces)

    def closed_by(self) -> str | None:
        """Return the piece that completed the run, None while it is open."""
        path = self._desk.path(f"{self._folder}/closed")
        return path.read_text("utf-8") if path.exists() else None

    def close(self, piece: str) -> None:
        self._desk.write(f"{self._folder}/closed", piece.encode())
