"""What is less than the author of a story may expect, said at the end of the demo."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from console import wording
from console.demo.report import files

if TYPE_CHECKING:
    from console.demo.run import Told

SHOWN = 6


def notes(text: str, told: Told) -> list[str]:
    """Return sentences: was the story condensed, and are there letters that no font here can draw?

    Args:
        text: the story without its title.
    """
    from examples.storyboard.text import is_condensed

    cuts: dict[str, Any] = json.loads(files(told)["cut_list"].read_text("utf-8"))
    said = []
    if is_condensed(text):
        extent = f"{wording.plural(cuts['scenes'], 'scene')} and {wording.plural(len(cuts['cuts']), 'shot')}"
        said.append(f"The story was condensed to {extent}: captions quote from it.")
    missing = unwritten([cuts["title"], *(cut["caption"] for cut in cuts["cuts"])])
    return [*said, missing] if missing else said


def unwritten(lines: list[str]) -> str:
    """Return a sentence on the lines that cannot be drawn in full for want of a font; empty when all can be."""
    from examples.storyboard.lettering import lacking

    lacks = list(filter(None, map(lacking, lines)))
    if not lacks:
        return ""
    letters = list(dict.fromkeys("".join(lacks)))
    quoted = " ".join(letters[:SHOWN]) + (" ..." if len(letters) > SHOWN else "")
    return (
        f"No font was found for {wording.plural(len(letters), 'character')} ({quoted}) in {len(lacks)} of "
        f"{len(lines)} titles and captions: grey bars stand for them, or they are left out; install DejaVu Sans or "
        "Noto Sans CJK."
    )
