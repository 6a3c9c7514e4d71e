"""`eventbus tree`: readable on 80 columns, whole for programs, and cut with a word about what was left out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from console.tree import Shown, print_tree
from events.embedded import ensure
from store.tree import CausationTree, TreeEvent, build
from tests.console.command import Place
from tests.console.test_asking import _on_a_terminal as on_a_terminal

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A root whose cause is unknown, with 20 scenes of 30 shots each, half of all that archived; and a long chain."""
    directory = tmp_path_factory.mktemp("grown")
    place = Place(directory, {})
    server = ensure(directory / ".eventbus")
    root = an_event("EV-root", "EV-elsewhere", type="PROJECT_CREATED")
    scenes = [an_event(f"EV-{n}", "EV-root", cost=0.5, latency_ms=1000 * n, second=n) for n in range(20)]
    shots = [
        an_event(f"EV-{n}-{m}", f"EV-{n}", type="SHOT_PLANNED", cost=0.01, currency="EUR" if n else "USD", second=30)
        for n in range(20)
        for m in range(30)
    ]
    deep = [an_event(f"EV-deep-{n}", f"EV-deep-{n - 1}" if n else None, project="DEEP") for n in range(120)]
    for events in ([root, *scenes, *shots[:300]], [*shots[300:], *deep]):
        if events[0] is not root:
            assert place.run("archive", "--once").code == 0
        done = place.run("publish", "--file", "-", stdin="".join(json.dumps(one) + "\n" for one in events))
        assert done.code == 0, done.err
    yield place
    server.release()


def an_event(
    event_id: str,
    cause: str | None,
    *,
    type: str = "SCENE_WRITTEN",
    project: str = "P",
    second: int = 0,
    **metadata: Any,
) -> dict[str, Any]:
    return {
        "event_id": event_id, "project_id": project, "type": type, "actor": "Writer", "causation_id": cause,
        "timestamp": (NOON + timedelta(seconds=second)).isoformat(), "payload": {"of": event_id}, "metadata": metadata,
    }  # fmt: skip


def test_a_large_tree_is_cut_and_says_how_much_was_left_out_and_how_to_see_it(grown: Place) -> None:
    shown = grown.run("tree", "EV-root")
    few = grown.run("tree", "EV-root", "--limit", "3")
    scenes = grown.run("tree", "EV-root", "--depth", "1", "--cost")

    assert len(shown.out.splitlines()) == 502
    assert shown.err == (
        "eventbus: 121 of 621 events are not shown: --limit 621 without --depth shows all of them, `eventbus tree` "
        "with another event's id or position a part.\n"
    )
    assert [line.partition("  Writer")[0] for line in few.out.splitlines()[:3]] == [
        "PROJECT_CREATED", "├─ SCENE_WRITTEN", "│  ├─ SHOT_PLANNED",
    ]  # fmt: skip
    assert grown.run("tree", "EV-root", "--limit", "621").err == ""
    assert scenes.out.splitlines()[0].startswith("PROJECT_CREATED  Writer  [with 620 below: 5.70 EUR + $10.30]")
    assert scenes.out.splitlines()[1].startswith("├─ SCENE_WRITTEN  Writer  $0.50  [with 30 below: $0.80]")
    assert len(scenes.out.splitlines()) == 23 and "600 of 621 events are not shown" in scenes.err


def test_totals_and_missing_causes_are_below_the_tree(grown: Place) -> None:
    *_, totals, missing = grown.run("tree", "EV-root", "-n", "1").out.splitlines()
    chain = grown.run("chain", "EV-3-1")

    assert totals == "621 events, 5.70 EUR + $10.30, 3 min 10 s of work"
    assert missing.startswith("EV-root (position ")
    assert missing.endswith(") names the cause EV-elsewhere, which is neither in history nor in the store.")
    assert chain.out.splitlines()[-1] == missing
    assert grown.run("chain", "EV-3-1", "--json").json()["missing"]["causation_id"] == "EV-elsewhere"
    assert grown.run("chain", "EV-deep-3", "--json").json()["missing"] is None


def test_json_has_every_event_with_what_it_and_all_below_it_amount_to(grown: Place) -> None:
    root, first, *_ = nodes = grown.run("tree", "EV-root", "--json").json_lines()
    part = grown.run("tree", first["position"], "--json", "--depth", "0")

    assert [node["level"] for node in nodes].count(2) == 600 and len(nodes) == 621
    assert root["cost_by_currency"] == {"EUR": 5.7, "USD": 10.3} and root["cost"] is None
    assert (root["elapsed_ms"], root["latency_total_ms"]) == (38_000, 190_000)
    assert root["missing"][0]["event_id"] == "EV-root" and "missing" not in first
    assert [node["event_id"] for node in nodes if node["critical"]] == ["EV-root", "EV-19"]
    assert (first["count"], first["cost_total"], first["waiting_total"], first["dead_total"]) == (31, 0.8, 0, 0)
    assert part.json() == {**first, "missing": []} | {"level": 0, "critical": True}
    assert "30 of 31" in part.err


def test_times_alone_mark_the_path_to_the_event_that_ends_last(grown: Place) -> None:
    lines = grown.run("tree", "EV-root", "--latency", "--depth", "1").out.splitlines()

    assert [line for line in lines if "* " in line][:2] == [lines[0], lines[20]]
    assert lines[20].startswith("└─ * SCENE_WRITTEN  Writer  19.0 s")
    assert lines[21] == "621 events, 3 min 10 s of work, 38.0 s to its end, by the path of 2 events marked *"


def test_chain_with_tree_as_json_keeps_payloads_across_the_archive(grown: Place) -> None:
    nodes = grown.run("chain", "EV-3-1", "--tree", "--json").json_lines()

    assert len(nodes) == 621
    assert all(node["payload"] == {"of": node["event_id"]} for node in nodes)


def test_a_tree_is_readable_on_eighty_columns_however_deep_it_is(grown: Place) -> None:
    shown = on_a_terminal(grown, {"NO_COLOR": "1"}, "tree", "EV-deep-0", columns=80).replace("\x1b[2m", "")
    lines = [line.replace("\x1b[0m", "").rstrip("\r") for line in shown.splitlines()]

    assert len(lines) == 121
    assert all(len(line) <= 80 and "SCENE_WRITTEN  Writer" in line for line in lines[:120])
    assert lines[119].startswith("…119 ") and "└─ SCENE_WRITTEN" in lines[119]


def test_two_measures_alone_an_unknown_event_and_an_empty_position_are_mistakes(grown: Place) -> None:
    both = grown.run("tree", "EV-root", "--cost", "--latency")
    unknown = grown.run("tree", "EV-nobody")

    assert (both.code, unknown.code, grown.run("tree", "17").code) == (2, 2, 2)
    assert both.sentence().startswith("--cost and --latency leave out each other")
    assert unknown.sentence().startswith("There is no event 'EV-nobody'")


def hostile_tree() -> CausationTree:
    """What no publisher of ours can make, and what another one may have written into Redis."""
    event = TreeEvent(
        1, "e\x1b[2J1", "P", "A\x1b[31mB", "[red]\u202eactor\n", "e\x070", NOON, 5, "\x1b]0;x\x07", 0, 1, 2
    )
    return build("x", {"x": event})


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_names_are_shown_as_escapes(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=300, force_terminal=terminal, no_color=True, markup=False, highlight=False)

    print_tree(console, hostile_tree(), Shown(positions=True))

    bare = out.getvalue().replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert all(char.isprintable() or char == "\n" for char in bare)
    assert "A\\x1b[31mB  [red]\\u202eactor\\n" in bare and "1 waiting, 2 dead" in bare


def test_the_tree_of_a_place_that_has_none_is_a_sentence(tmp_path: Path) -> None:
    assert Place(tmp_path, {}).run("tree", "EV-1").code == 1
