"""A pipeline in one process: feeds what agents return to the agents that subscribe to it."""

from __future__ import annotations

import random
from collections import deque
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from examples.storyboard import SUBSCRIPTIONS, opening_event

SHORT = (
    "One morning a Fox met a Crow in the forest. The proud Crow sat on a branch with a piece of cheese.\n\n"
    '"What a lovely voice you have!" said the Fox. The Crow was happy and opened her beak to sing at dusk.'
)


def run(title: str, text: str, out: str | Path, *, shuffle: int | None = None, twice: bool = False) -> list[Any]:
    """Return every event, in the order of handling; optionally each one twice, and in any order."""
    seen: list[Any] = []
    waiting = deque([opening_event(title, text, out, "P-1")])
    chance = random.Random(shuffle)
    while waiting:
        if shuffle is not None:
            waiting.rotate(chance.randrange(len(waiting)))
        event = waiting.popleft()
        seen.append(event)
        for agent, types, _ in SUBSCRIPTIONS:
            if event.type in types:
                returned = agent.handle_event(event)
                waiting.extend(returned)
                if twice:
                    again = agent.handle_event(event)
                    assert [(e.type, e.payload) for e in again] == [(e.type, e.payload) for e in returned]
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but the editor's ledger, whose names belong to one run."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "received" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def opened(image: Path | BytesIO) -> Any:
    """Open an animated picture; its frames are known only to the class of its format."""
    return Image.open(image)
