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
        return text if "eventbus_event_cost_total{" in text and "eventbus_attempts_total{" in text else ""

    return wait_until(told, 60, "an attempt and a cost in /metrics")


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
