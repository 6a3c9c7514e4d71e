"""The story as a file: what is accepted, and one sentence for everything that is not."""

from __future__ import annotations

import codecs
import unicodedata
from dataclasses import dataclass
from pathlib import Path

# An event may have 1 MiB, and JSON writes a quotation mark or a line end with two bytes.
MAX_STORY_BYTES = 500_000
MAX_TITLE_CHARS = 80
FABLE = Path(__file__).with_name("fable.txt")


class StoryError(ValueError):
    """A story cannot be used; the message is one sentence for its author."""


@dataclass(frozen=True, slots=True)
class Story:
    """A title and the text that follows it, without control characters, lines ended by `\\n`."""

    title: str
    text: str


def load_story(path: str | Path) -> Story:
    """Read a story from a UTF-8 text file; its first line is the title when it is short.

    Raises:
        StoryError: the file is missing, not a file, unreadable, too large, not UTF-8, or has no words.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise StoryError(f"{path} is a directory; give the name of a text file.")
        if not path.exists():
            raise StoryError(f"There is no file {path}.")
        if not path.is_file():
            raise StoryError(f"{path} is not a regular file; give the name of a text file.")
        with path.open("rb") as file:
            raw = file.read(MAX_STORY_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, StoryError):
            raise
        raise StoryError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if len(raw) > MAX_STORY_BYTES:
        raise StoryError(f"{path} has more than {MAX_STORY_BYTES:,} bytes; a story may have at most that many.")
    return parse_story(_decoded(raw, path), name=str(path), fallback_title=path.stem)


def parse_story(text: str, name: str = "The story", fallback_title: str = "Untitled") -> Story:
    """Split a text into title and story.

    The first line is the title when it has no mark at its end, and an empty line or a much longer
    one follows.

    Raises:
        StoryError: as `checked` does.
    """
    text = checked(text, name)
    first, _, rest = text.partition("\n")
    title = first.strip(" #*=-_")
    follows = rest.split("\n", 1)[0]
    set_off = not follows.strip() or len(follows) > 2 * len(title)
    if rest.strip() and 0 < len(title) <= MAX_TITLE_CHARS and title[-1] not in ".,;:!?。，；：！？" and set_off:
        return Story(title, rest.strip())
    title = clean(fallback_title).replace("_", " ").replace("-", " ").strip()
    return Story(title[:MAX_TITLE_CHARS] or "Untitled", text)


def checked(text: str, name: str = "The story") -> str:
    """Return the text cleaned, after making sure that there is a story in it.

    Raises:
        StoryError: the text holds the character U+0000, no letter, digit or symbol, or too many bytes.
    """
    if "\0" in text:
        raise StoryError(f"{name} holds the character U+0000, so it is not a text file.")
    text = clean(text)
    if not text:
        raise StoryError(f"{name} is empty; a story needs at least one word.")
    if not any(character.isalnum() or unicodedata.category(character) == "So" for character in text):
        raise StoryError(f"{name} holds no letters; a story needs at least one word.")
    if len(text.encode()) > MAX_STORY_BYTES:
        raise StoryError(f"{name} has more than {MAX_STORY_BYTES:,} bytes; a story may have at most that many.")
    return text


def clean(text: str) -> str:
    """Return the text in NFC with `\\n` line ends and without control characters or lone surrogates."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " "))
    kept = (c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs", "Cn"))
    return "\n".join(line.rstrip() for line in "".join(kept).strip().removeprefix("\ufeff").split("\n")).strip()


def _decoded(raw: bytes, path: Path) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise StoryError(f"{path} is UTF-16; save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoryError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{raw[error.start]:02x}); save it as UTF-8."
        ) from None
