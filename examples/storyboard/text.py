"""From a text to scenes: paragraphs, sentences, and groups of them that are worth a picture.

Works on any script: sentences end at Latin, Chinese, Arabic and Indic marks, at line ends, and,
where a writer used none, every `MAX_SENTENCE_CHARS`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SCENES = 8
MAX_SHOTS = 12
MAX_SHOTS_PER_SCENE = 3
MAX_SENTENCE_CHARS = 240
SCENE_CHARS = 330
SHORTEST_SCENE_CHARS = 90
CAPTION_CHARS = 132

_END = re.compile(r"""([.!?…]+["'”’»)\]]*(?=\s|$)|[。！？；؟।॥]+["'”’」』）]*)""")
_SOFT = re.compile(r"[,;:，；、：—–]\s*|\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|No|vs|etc|e\.g|i\.e)|\b[A-Z])\.$")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some consecutive sentences that make one scene, and how many shots they are worth."""

    sentences: tuple[str, ...]
    shots: int

    @property
    def text(self) -> str:
        return join(self.sentences)


def split_story(text: str) -> list[Passage]:
    """Split a story into 1 to `MAX_SCENES` scenes that share at most `MAX_SHOTS` shots.

    Nothing is left out: a long story gets longer scenes, and its captions quote from them.
    """
    groups = _scenes([sentences(paragraph) for paragraph in paragraphs(text)])
    allotted = _allot([weight(join(group)) for group in groups], [len(group) for group in groups])
    return [Passage(tuple(group), shots) for group, shots in zip(groups, allotted, strict=True)]


def is_condensed(text: str) -> bool:
    """Tell whether a story is worth more scenes than `MAX_SCENES`, so that each is longer than it would be."""
    return len(_runs([sentences(paragraph) for paragraph in paragraphs(text)])) > MAX_SCENES


def weight(text: str) -> int:
    """Return how much a text says, in Latin letters: a Chinese character counts for two and a half."""
    return len(text) + 3 * sum("\u3040" <= character <= "\u9fff" for character in text) // 2


def paragraphs(text: str) -> list[str]:
    """Split at empty lines, or at every line end where a text has none; lines inside are joined."""
    blocks = re.split(r"\n\s*\n", text)
    if len(blocks) == 1 and text.count("\n") >= 2 and len(text) / (text.count("\n") + 1) > 100:
        blocks = text.split("\n")
    return [block for block in (" ".join(part.split()) for part in blocks) if block]


def sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences; none ends in an abbreviation, or before a small letter."""
    found: list[str] = []
    start = 0
    for match in _END.finditer(paragraph):
        sentence = paragraph[start : match.end()]
        if _ABBREVIATION.search(sentence) or paragraph[match.end() :].lstrip()[:1].islower():
            continue
        found.append(sentence.strip())
        start = match.end()
    found.append(paragraph[start:].strip())
    return _merge_crumbs([part for sentence in found if sentence for part in _cut(sentence, MAX_SENTENCE_CHARS)])


def caption(sentence: str, limit: int = CAPTION_CHARS) -> str:
    """Shorten a sentence to a caption that ends at a word, with an ellipsis where it was cut."""
    if len(sentence) <= limit:
        return sentence
    head = _cut(sentence, limit - 1)[0]
    return head.rstrip(" ,;:，；、：—–") + "…"


def join(parts: tuple[str, ...] | list[str]) -> str:
    """Join sentences with a space, except after a Chinese or Japanese mark, which needs none."""
    text = ""
    for part in parts:
        text += part if not text or text[-1] in "。！？；」』）…，、" else " " + part
    return text


def groups_of(items: list[str] | tuple[str, ...], n: int) -> list[list[str]]:
    """Cut a list into n consecutive, non-empty runs of about the same total length."""
    total, passed = sum(map(len, items)), 0
    runs: list[list[str]] = []
    run: list[str] = []
    for index, item in enumerate(items):
        run.append(item)
        passed += len(item)
        left_items, left_runs = len(items) - index - 1, n - len(runs) - 1
        if left_runs and (passed >= total * (len(runs) + 1) / n or left_items == left_runs):
            runs.append(run)
            run = []
    return [*runs, run] if run else runs


def _cut(sentence: str, limit: int) -> list[str]:
    """Cut what is too long at the last comma or space before the limit, or at the limit."""
    parts = []
    while len(sentence) > limit:
        breaks = [match.end() for match in _SOFT.finditer(sentence, 0, limit) if match.end() > limit // 2]
        at = breaks[-1] if breaks else limit
        parts.append(sentence[:at].strip())
        sentence = sentence[at:].strip()
    return [*parts, sentence] if sentence else parts


def _merge_crumbs(found: list[str], shortest: int = 12) -> list[str]:
    """Join a very short sentence to the one before it: "No!" is not worth a line of its own."""
    merged: list[str] = []
    for sentence in found:
        if merged and weight(sentence) < shortest and len(merged[-1]) + len(sentence) < MAX_SENTENCE_CHARS:
            merged[-1] = join([merged[-1], sentence])
        else:
            merged.append(sentence)
    return merged


def _scenes(blocks: list[list[str]]) -> list[list[str]]:
    """Cut into scenes, and keep to their limit."""
    scenes = _runs(blocks)
    if len(scenes) > MAX_SCENES:
        scenes = groups_of([sentence for scene in scenes for sentence in scene], MAX_SCENES)
    return scenes


def _runs(blocks: list[list[str]]) -> list[list[str]]:
    """Cut long paragraphs and join short neighbours."""
    whole = sum(weight(join(block)) for block in blocks)
    size = min(SCENE_CHARS, max(SHORTEST_SCENE_CHARS, whole // 6))
    scenes: list[list[str]] = []
    for block in blocks:
        for run in groups_of(block, min(len(block), -(-weight(join(block)) // (2 * size)))):
            if scenes and weight(join(scenes[-1])) + weight(join(run)) <= size:
                scenes[-1] = scenes[-1] + run
            else:
                scenes.append(run)
    return scenes


def _allot(lengths: list[int], most: list[int]) -> list[int]:
    """One shot for each scene, then one more at a time for the scene that has most text per shot."""
    shots = [1] * len(lengths)
    while sum(shots) < MAX_SHOTS:
        able = [
            i for i in range(len(shots)) if shots[i] < min(MAX_SHOTS_PER_SCENE, most[i]) and lengths[i] / shots[i] > 80
        ]
        if not able:
            break
        shots[max(able, key=lambda i: (lengths[i] / shots[i], -i))] += 1
    return shots
