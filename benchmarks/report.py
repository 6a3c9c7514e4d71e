"""`python -m benchmarks.report [--from DIRECTORY]`: what runs have found, written into docs/performance.md and a chart.

The directory holds `peers.json` (of `python -m benchmarks --save`), `limits.json` (of `python -m benchmarks.limits
--json`), `flat.json` (of `python -m benchmarks.flat --json`) and `flames.json` (of `python -m benchmarks.flames
--save`); what is missing leaves its part of the page as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.flame_graph import drawing
from benchmarks.flat.states import STATES
from benchmarks.limits.__main__ import LIMITS
from benchmarks.results import Run, medians, number
from benchmarks.works import ROOT

PAGE, CHART = ROOT / "docs" / "performance.md", ROOT / "docs" / "images" / "performance.svg"
CHARTED = {
    "publish-one": "Publish one by one, events/s",
    "drain": "Drain, deliveries/s",
    "end-to-end-one": "End to end one by one, events/s",
}
FLAMES = {
    "publish-one": "One awaited publish: CPU of the publisher, by function",
    "publish-bulk": "An event in publish_many: CPU of the publisher, by function",
    "drain": "A delivery, drained: CPU of the workers, by function",
}
_WIDTH, _ROW, _NAMES, _PANEL, _GAP = 960, 22, 190, 240, 16


def main() -> None:
    """Write what the directory holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=ROOT / "benchmarks" / "found")
    source = parser.parse_args().source
    page = PAGE.read_text()
    if (found := source / "peers.json").exists():
        run = Run.read(found)
        page = _replaced(page, "peers", _peers(run))
        CHART.write_text(chart(run))
    if (found := source / "limits.json").exists():
        page = _replaced(page, "limits", _limits(json.loads(found.read_text())))
    if (found := source / "flat.json").exists():
        page = _replaced(page, "flat", _flat(json.loads(found.read_text())))
    if (found := source / "flames.json").exists():
        recorded = json.loads(found.read_text())
        page = _replaced(page, "flames", _flames(recorded))
        for work, title in FLAMES.items():
            _flames_picture(work).write_text(drawing(title, _headed(recorded["works"][work])), encoding="utf-8")
    PAGE.write_text(page)


def _replaced(page: str, part: str, lines: Iterable[str]) -> str:
    begin, end = f"<!-- {part} begins -->\n", f"<!-- {part} ends -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: begin + "\n" + "\n".join(lines) + "\n\n" + end, page)


def _peers(run: Run) -> Iterable[str]:
    yield f"![Rates of publishing, draining and end to end, by contestant](images/{CHART.name})"
    yield ""
    yield f"{run.machine}. Medians of each contestant's turns."
    yield ""
    yield from _markdown(
        ("contestant", "versions", "a crash of a worker"),
        (
            (one["label"], ", ".join(f"{name} {version}" for name, version in one["versions"].items()), one["promise"])
            for one in run.contestants.values()
        ),
    )
    for work, title in run.titles.items():
        rows = run.medians(work)
        figures = list(dict.fromkeys(figure for row in rows.values() for figure in row))
        first = next(iter(rows.values()), {})
        has_rate = "per_s" in figures
        yield from ("", f"### {title}", "")
        yield from _markdown(
            ("", *(figure.replace("_", " ") for figure in figures), *(["of the first"] if has_rate else []), "turns"),
            (
                (
                    run.contestants[name]["label"],
                    *(number(row[figure]) for figure in figures),
                    *([f"{row['per_s'] / first['per_s']:.2f}"] if has_rate else []),
                    str(len(run.works[work][name])),
                )
                for name, row in rows.items()
            ),
        )


def _limits(found: dict[str, Any]) -> Iterable[str]:
    yield f"{found['machine']}. Medians of {found['rounds']} turns of each side; ours first."
    for limit in LIMITS:
        if turns := found["limits"].get(limit.name):
            middle = {side: statistics.median(figures) for side, figures in turns.items()}
            ours = next(iter(middle.values()))
            yield from ("", f"### {limit.title} ({limit.unit})", "")
            yield from _markdown(
                ("", "median", "least", "most", "ours / this"),
                (
                    (side, number(middle[side]), number(min(turns[side])), number(max(turns[side])),
                     f"{ours / middle[side]:.2f}" if middle[side] else "")
                    for side in turns
                ),
            )  # fmt: skip


def _flat(found: dict[str, Any]) -> Iterable[str]:
    costs = medians(found["states"])
    figures = list(next(iter(costs.values())))
    yield f"{found['machine']}. Medians of {found['rounds']} turns of each state; in brackets, of what it grew from."
    yield ""
    yield from _markdown(
        ("", *(figure.replace("_", " ") for figure in figures)),
        (
            (
                STATES[name].title,
                *(f"{row[one]:.1f} ({row[one] / costs[STATES[name].base][one]:.2f})" for one in figures),
            )
            for name, row in costs.items()
        ),
    )


def _flames(found: dict[str, Any]) -> Iterable[str]:
    yield f"{found['machine']}. One recording of each."
    for work, title in FLAMES.items():
        headings = "; ".join(_headed(found["works"][work]))
        yield from ("", f"![{title}: {headings}](images/{_flames_picture(work).name})")


def _flames_picture(work: str) -> Path:
    return CHART.with_name(f"flames-{work}.svg")


def _headed(builds: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {f"{name}: {sum(stacks.values()):.0f} us": stacks for name, stacks in builds.items()}


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "| --- |" + " ---: |" * (len(headings) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def chart(run: Run) -> str:
    """Return rates as bars, a column for each work; a bar is as long as its share of the fastest in its column."""
    works = [work for work in CHARTED if run.works.get(work)]
    rates = {work: {name: row["per_s"] for name, row in run.medians(work).items()} for work in works}
    names = [name for name in run.contestants if any(name in found for found in rates.values())]
    height = _ROW * (len(names) + 2)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="Rates by contestant">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for column, work in enumerate(works):
        left, fastest = _NAMES + column * (_PANEL + _GAP), max(rates[work].values())
        drawn.append(f'<text x="{left}" y="{_ROW}" font-weight="bold">{_escaped(CHARTED[work])}</text>')
        for row, name in enumerate(names):
            if name in rates[work]:
                drawn += _bar(left, _ROW * (row + 2), rates[work][name], fastest, is_ours=name.startswith("eventbus"))
    for row, name in enumerate(names):
        weight = "bold" if name.startswith("eventbus") else "normal"
        label = _escaped(run.contestants[name]["label"])
        drawn.append(
            f'<text x="{_NAMES - 8}" y="{_ROW * (row + 2)}" text-anchor="end" font-weight="{weight}">{label}</text>'
        )
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _bar(left: float, bottom: float, rate: float, fastest: float, *, is_ours: bool) -> list[str]:
    length = max(1.0, rate / fastest * (_PANEL - 60))
    colour = "#0b6e4f" if is_ours else "#9aa5b1"
    return [
        f'<rect x="{left}" y="{bottom - 12}" width="{length:.1f}" height="15" fill="{colour}"/>',
        f'<text x="{left + length + 4:.1f}" y="{bottom}">{rate:,.0f}</text>',
    ]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


if __name__ == "__main__":
    main()
