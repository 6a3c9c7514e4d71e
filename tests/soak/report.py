"""The report of a soak, on one screen, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from tests.soak.run import MOST_IDLE_COMMANDS, Soaked
from tests.soak.slopes import LEAST_SPAN_S, Trend

MEGABYTE = 1e6
BYTES = ("memory", "size")


def screen(soaked: Soaked) -> str:
    """Return what happened."""
    soak = soaked.soak
    faults = ", ".join(f"{name} {count}" for name, count in sorted(soaked.faults.items())) or "none"
    asked = ", ".join(f"{name} {rate:.1f}" for name, rate in soaked.idle.items()) or "not measured"
    lines = [
        f"seed {soak.seed}, {soak.database}, {soak.events:,} events at {soak.per_second:g}/s: {soaked.acknowledged:,} "
        f"published in {soaked.seconds:,.0f} s, the others caused",
        f"faults      {faults}",
        f"slopes      after the first {soak.warm_up_s:.0f} s of each process",
        f"            {'of':<24}{'median':>10}{'slope':>15}{'limit':>10}{'seen':>9}",
        *(f"            {_line(trend)}" for trend in soaked.trends),
        f"idle        commands a second in {soak.idle_s:.0f} s: {asked}",
        f"verdict     {_verdict(soaked)}",
        *(f"  - the {trend.what} of {trend.of} grows" for trend in soaked.growing),
        *(f"  - {name} sends {rate:.2f} commands a second; at most {MOST_IDLE_COMMANDS[name.split()[0]]:g}"
          for name, rate in soaked.restless.items()),
        *(f"  - {name} asks nothing of Redis" for name in soaked.silent),
        *(f"  - {says}" for says in soaked.violations),
    ]  # fmt: skip
    return "\n".join(lines)


def _verdict(soaked: Soaked) -> str:
    if not soaked.holds:
        return "BROKEN:"
    brief, count = len(soaked.too_brief), len(soaked.trends)
    grows = "nothing grows" if not brief else f"nothing that could be judged grows ({count - brief} of {count} slopes)"
    return f"{grows}, idle processes are quiet, every total holds"


def as_json(soaked: Soaked) -> str:
    """Return the same for programs: one object; sizes in bytes, spans in seconds."""
    trends = [{**asdict(trend), "grows": trend.grows, "is_judged": trend.is_judged} for trend in soaked.trends]
    verdict = {"restless": soaked.restless, "silent": soaked.silent, "holds": soaked.holds}
    return json.dumps({**asdict(soaked), "trends": trends, **verdict})


def _line(trend: Trend) -> str:
    middle = f"{trend.middle / MEGABYTE:,.1f} MB" if trend.what in BYTES else f"{trend.middle:,.0f}"
    unit = "B" if trend.what in BYTES else ""
    slope = f"{trend.slope:+,.3g} {unit}/{trend.per}"
    verdict = "GROWS" if trend.grows else "" if trend.is_judged else f"less than {LEAST_SPAN_S:.0f} s: not judged"
    name = f"{trend.of} {trend.what}"
    return f"{name:<24}{middle:>10}{slope:>15}{trend.most:>10g}{trend.span_s:>7.0f} s {verdict}".rstrip()
