"""Flame graphs as pictures: of several builds under each other, on one scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape

_WIDTH, _ROW, _HEAD, _LEFT = 960.0, 17, 26, 8.0
_LETTER = 5.9  # of a label, in pixels
_LEAST = 1.0  # pixels; what is narrower is not drawn
_COLOURS = {
    "the bus": ("#8fd0b5", ("events/", "workers/", "store/", "console/")),
    "redis-py, hiredis": ("#f2c37e", ("redis/", "hiredis/")),
    "pydantic": ("#c3b1e8", ("pydantic/", "pydantic_core/")),
    "Dramatiq": ("#f0a8a8", ("dramatiq/",)),
    "the benchmark": ("#b9d3ee", ("benchmarks/",)),
}
_OTHERS = ("Python and others", "#d5dae0")


@dataclass(slots=True)
class Frame:
    """A function, and what it called; microseconds with and without that."""

    us: float = 0.0
    calls: dict[str, Frame] = field(default_factory=dict)

    def add(self, stack: list[str], us: float) -> None:
        """Add time that was spent at the end of a stack."""
        frame = self
        frame.us += us
        for name in stack:
            frame = frame.calls.setdefault(name, Frame())
            frame.us += us

    def depth(self) -> int:
        """Return how many rows it and its calls take."""
        return 1 + max((call.depth() for call in self.calls.values()), default=0)


def drawing(title: str, builds: Mapping[str, Mapping[str, float]]) -> str:
    """Return an SVG.

    Args:
        builds: by heading, microseconds an event by stack, `outermost;...;innermost`.
    """
    roots = {heading: _rooted(stacks) for heading, stacks in builds.items()}
    scale = (_WIDTH - 2 * _LEFT) / max(root.us for root in roots.values())
    body, top = [], float(_HEAD)
    for heading, root in roots.items():
        body.append(f'<text x="{_LEFT}" y="{top + 12}" font-size="13" font-weight="bold">{escape(heading)}</text>')
        body += _drawn(f"{heading}: all", root, _LEFT, top + 18, scale, root.us)
        top += 18 + root.depth() * _ROW + 14
    body += _legend(top + 10)
    height = top + 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" '
            f'font-family="sans-serif" font-size="10" role="img" aria-label="{escape(title)}">',
            f'<rect width="{_WIDTH:.0f}" height="{height:.0f}" fill="#ffffff"/>',
            f'<text x="{_LEFT}" y="16" font-size="14" font-weight="bold">{escape(title)}</text>',
            *body,
            "</svg>\n",
        ]
    )


def _rooted(stacks: Mapping[str, float]) -> Frame:
    root = Frame()
    for stack, us in stacks.items():
        root.add(stack.split(";") if stack else [], us)
    return root


def _drawn(name: str, frame: Frame, left: float, top: float, scale: float, whole: float) -> Iterator[str]:
    width = frame.us * scale
    if width < _LEAST:
        return
    said = escape(f"{name}: {frame.us:.1f} us, {frame.us / whole:.0%}")
    yield (
        f'<g><title>{said}</title><rect x="{left:.1f}" y="{top:.0f}" width="{max(width - 0.6, 0.4):.1f}" '
        f'height="{_ROW - 1}" fill="{_colour(name)}"/>'
    )
    if (label := _label(name, frame.us, width)) is not None:
        yield f'<text x="{left + 3:.1f}" y="{top + 12:.0f}">{escape(label)}</text>'
    yield "</g>"
    for called, inner in sorted(frame.calls.items(), key=lambda call: -call[1].us):
        yield from _drawn(called, inner, left, top + _ROW, scale, whole)
        left += inner.us * scale


def _label(name: str, us: float, width: float) -> str | None:
    fits = int((width - 6) / _LETTER)
    function = name.partition(" (")[0]
    for text in (f"{function}  {us:.1f}", function, function.rpartition(".")[2]):
        if len(text) <= fits:
            return text
    return function.rpartition(".")[2][: fits - 1] + "…" if fits >= 5 else None


def _colour(name: str) -> str:
    file = name.rpartition(" (")[2]
    return next((colour for colour, starts in _COLOURS.values() if file.startswith(starts)), _OTHERS[1])


def _legend(bottom: float) -> Iterator[str]:
    left = _LEFT
    for name, colour in [*((name, colour) for name, (colour, _) in _COLOURS.items()), _OTHERS]:
        yield f'<rect x="{left:.0f}" y="{bottom - 9:.0f}" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{left + 14:.0f}" y="{bottom:.0f}">{name}</text>'
        left += 26 + len(name) * _LETTER
