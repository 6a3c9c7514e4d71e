"""The Grafana dashboard and the alert rules ask for metrics and labels that /metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.waiting import wait_until
from tests.web.site import Site

ROOT = Path(__file__).resolve().parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
SCRAPED = {"job", "instance", "__name__"}  # what Prometheus adds


def asked() -> Iterator[tuple[str, str]]:
    """Where something is asked, and what."""
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield f"dashboard: {panel['title']}", target["expr"]
    for one in BOARD["templating"]["list"]:
        if one["type"] == "query":
            yield f"dashboard: ${one['name']}", one["definition"]
    for rule in RULES:
        yield f"alert: {rule['alert']}", rule["expr"]
    text = (ROOT / "docs" / "deploy.md").read_text()
    for query in re.findall(r"^ +query: (.+)$", text, re.MULTILINE):
        yield "docs/deploy.md", query


@pytest.fixture(scope="module")
def metrics(site: Site) -> str:
    """What /metrics says after something was handled, went wrong, and was archived."""
    site.published(type="PROJECT_CREATED", metadata={"cost": 0.5, "latency_ms": 20})

    def told() -> str:
        text = site.http.get("/metrics").text
        handled = re.search(r'^eventbus_handler_duration_seconds_count\{subscriber="Writer"\} [1-9]', text, re.M)
        return text if handled and "eventbus_event_cost_total{" in text else ""

    return wait_until(told, 60, "an attempt that ended and a cost in /metrics")


def samples(metrics: str) -> dict[str, set[str]]:
    """The names of samples, and the labels of each."""
    found: dict[str, set[str]] = {}
    for line in metrics.splitlines():
        if sample := re.match(r"([a-z_]+)(?:\{(.*)\})? ", line):
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


def test_every_metric_and_label_that_is_asked_for_is_there(metrics: str) -> None:
    there = samples(metrics)
    for where, expression in asked():
        names = set(re.findall(r"\beventbus_[a-z_]+\b", expression))
        assert names, f"{where} asks for nothing of ours"
        assert names <= there.keys(), f"{where} asks for {names - there.keys()}"
        labels = set().union(*(there[name] for name in names)) | SCRAPED
        grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
        matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        assert grouped | matched <= labels, f"{where} names labels {(grouped | matched) - labels}"


def series(metrics: str, name: str, **labels: str) -> dict[str, float]:
    """The samples of a name that have these labels, by `le`."""
    found = {}
    for line in metrics.splitlines():
        if sample := re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line):
            said = dict(re.findall(r'(\w+)="([^"]*)"', sample[1]))
            if labels.items() <= said.items():
                found[said.get("le", "")] = float(sample[2])
    return found


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("eventbus_handler_duration_seconds", {"subscriber": "Writer"}),
        ("eventbus_event_latency_seconds", {"type": "PROJECT_CREATED"}),
    ],
)
def test_durations_are_histograms_whose_buckets_add_up(metrics: str, name: str, labels: dict[str, str]) -> None:
    buckets = series(metrics, f"{name}_bucket", **labels)

    assert f"# TYPE {name} histogram" in metrics.splitlines()
    assert list(buckets) == sorted(buckets, key=float) and len(buckets) > 10
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets["+Inf"] == series(metrics, f"{name}_count", **labels)[""] >= 1
    assert series(metrics, f"{name}_sum", **labels)[""] > 0


def test_a_duration_is_counted_from_the_bound_that_it_does_not_pass(metrics: str) -> None:
    buckets = series(metrics, "eventbus_event_latency_seconds_bucket", type="PROJECT_CREATED")

    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 1, 1), "one event that took 20 ms"


def test_the_slowest_handlers_are_drawn_and_watched() -> None:
    p95 = r"histogram_quantile\(0\.95, .*eventbus_handler_duration_seconds_bucket"
    found = [where for where, expression in asked() if re.search(p95, expression)]

    assert [where.partition(":")[0] for where in found] == ["dashboard", "alert"]


def test_what_each_web_process_tells_of_the_whole_bus_is_not_added_up() -> None:
    for where, expression in asked():
        added = re.findall(r"\bsum\b(?: by \([^)]*\))? ?\((?!max by \()", expression)
        assert not added, f"{where} counts each web process that is scraped: {expression}"


def test_every_label_of_a_legend_and_a_sentence_is_one_that_is_grouped_by() -> None:
    places = [(t["legendFormat"], t["expr"]) for panel in BOARD["panels"] for t in panel["targets"]]
    places += [(json.dumps(rule["annotations"]), rule["expr"]) for rule in RULES]
    for text, expression in places:
        named = set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text))
        grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
        assert named <= grouped, (text, expression)


def test_what_is_asked_is_well_formed() -> None:
    for where, expression in asked():
        bare = re.sub(r'"[^"]*"', "", expression)
        for left, right in ("()", "[]", "{}"):
            assert bare.count(left) == bare.count(right), where
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in RULES)
    assert all(rule["labels"]["severity"] in ("critical", "warning", "info") for rule in RULES)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_no_panel_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
