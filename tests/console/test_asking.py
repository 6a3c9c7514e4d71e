"""`tail`, `replay`, `chain`, `stats`: text for people, JSON for programs, and a pipe may close."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import termios
from datetime import UTC, datetime, timedelta

import pytest

from tests.console.command import COMMAND, Place


def test_replay_filters_and_resumes(told: Place) -> None:
    shots = told.run("replay", "-p", "P-1", "--type", "SHOT_PLANNED", "--type", "SCENE_WRITTEN", "--json").json_lines()
    rest = told.run("replay", "-p", "P-1", "--after", shots[0]["position"], "--limit", "1", "--json").json_lines()
    recent = told.run("replay", "--since", "1h", "--correlation", "EV-root", "--json").json_lines()

    assert [event["event_id"] for event in shots] == ["EV-scene", "EV-shot-1", "EV-shot-2"]
    assert [event["event_id"] for event in rest] == ["EV-shot-1"]
    assert [event["depth"] for event in recent] == [0, 1, 2, 2]


def test_every_moment_in_json_is_spelt_as_the_http_api_spells_it(told: Place) -> None:
    commands = (
        "replay -n 3",
        "tail -n 3",
        "show EV-scene",
        "chain EV-shot-2",
        "tree EV-root",
        "stats --by hour",
        "top --once",
    )
    for command in commands:
        printed = told.run(*command.split(), "--json").out
        moments = re.findall(r'"(\d{4}-\d\d-\d\dT[^"]*)"', printed)
        assert moments and [each for each in moments if not each.endswith("Z")] == [], command


def test_replay_as_text_is_aligned_and_takes_names_literally(told: Place) -> None:
    shown = told.run("replay", "--type", "PROJECT_CREATED")
    nothing = told.run("replay", "--project", "nobody")

    heading, first, second = shown.out.splitlines()
    assert first[heading.index("PROJECT") :].startswith("P-1")
    assert second[heading.index("PROJECT") :].startswith("[red]P-2")
    assert "\x1b" not in shown.out
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "No event matches.\n")


def test_replay_finds_what_is_at_a_path_of_payload_or_metadata(told: Place) -> None:
    by_cost = told.run("replay", "--metadata", "cost=1e-2", "--metadata", "latency_ms=40.0", "--json").json_lines()
    by_text = told.run("replay", "--payload", f'text="{"x" * 200}"', "--limit", "2", "--json").json_lines()
    nobody = told.run("replay", "--payload", r"a\.b.0=null")

    assert [event["event_id"] for event in by_cost] == ["EV-shot-2"]
    assert [event["event_id"] for event in by_text] == ["EV-bulk-0", "EV-bulk-1"]
    assert (nobody.code, nobody.out, nobody.err) == (0, "", "No event matches.\n")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("scene.number", "--payload must be PATH=JSON, like scene.number=3"),
        ("title=Rain", "--payload must be PATH=JSON"),
        ("a=[1]", "payload can be asked for a text, a number, true, false or null at 'a', not for [1]."),
        ("a=NaN", "is nan, which JSON does not have"),
        ("a\\=1", "--payload must be PATH=JSON"),
    ],
)
def test_a_path_that_cannot_be_asked_is_named(told: Place, option: str, why: str) -> None:
    refused = told.run("replay", "--payload", option)
    twice = told.run("replay", "--payload", "a=1", "--payload", "a=2")

    assert refused.code == twice.code == 2
    assert why in refused.sentence()
    assert twice.sentence() == "--payload is given twice for the path 'a': one value can be there."


def test_a_position_that_does_not_exist_is_a_mistake(told: Place) -> None:
    beyond = told.run("replay", "--after", 2**63)

    assert beyond.code == 2 and beyond.sentence().startswith("A position is at most 9223372036854775807")
    assert told.run("replay", "--after", 2**63 - 1).err == "No event matches.\n"


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_tail_shows_the_last_events_across_the_archive_and_what_follows(told: Place, count: int) -> None:
    everything = [event["event_id"] for event in told.run("replay", "--json").json_lines()]

    last = [event["event_id"] for event in told.run("tail", "-n", count, "--json").json_lines()]

    assert last == everything[len(everything) - count :]


def test_tail_of_a_rare_kind_finds_it_far_back(told: Place) -> None:
    shown = told.run("tail", "--actor", "ScriptWriter", "--json").json_lines()

    assert [event["event_id"] for event in shown] == ["EV-scene"]


def test_following_shows_what_is_published_meanwhile_and_ends_with_130(place: Place) -> None:
    place.run("publish", "FIRST", "-p", "P", "-a", "A")
    tail = place.start("tail", "-f", "--json")
    assert tail.stdout is not None and tail.stderr is not None
    assert '"FIRST"' in tail.stdout.readline()

    place.run("publish", "SECOND", "-p", "P", "-a", "A")

    assert '"SECOND"' in tail.stdout.readline()
    tail.send_signal(signal.SIGINT)
    assert tail.wait(20) == 130
    assert tail.stderr.read() == ""


def test_the_chain_is_oldest_first_with_totals(told: Place) -> None:
    found = told.run("chain", "EV-shot-2", "--json").json()
    shown = told.run("chain", "EV-shot-2")
    position = found["events"][-1]["position"]

    assert [event["event_id"] for event in found["events"]] == ["EV-root", "EV-scene", "EV-shot-2"]
    assert (found["cost_total"], found["latency_total_ms"]) == (0.06, 1240)
    assert [line.split()[-1] for line in shown.out.splitlines()[1:4]] == ["EV-root", "EV-scene", "EV-shot-2"]
    assert "$0.06" in shown.out and "1.2 s" in shown.out
    assert told.run("chain", position).out == shown.out


def test_the_tree_shows_everything_that_the_root_set_off(told: Place) -> None:
    lines = told.run("chain", "EV-shot-1", "--tree").out.splitlines()
    nodes = told.run("chain", "EV-shot-1", "--tree", "--json").json_lines()

    assert [line.split("  ")[0] for line in lines[:2]] == ["PROJECT_CREATED", "└─ SCENE_WRITTEN"]
    assert lines[2].startswith("   ├─ SHOT_PLANNED") and lines[2].endswith("<- this event")
    assert lines[3].startswith("   └─ SHOT_PLANNED")
    assert lines[4] == "4 events, $0.07, 1.3 s of work"
    assert [node["level"] for node in nodes] == [0, 1, 2, 2]
    assert nodes[0]["count"] == 4 and nodes[0]["cost_total"] == 0.07


def test_stats_count_per_type_and_in_total(told: Place) -> None:
    found = told.run("stats", "--project", "P-1", "--json").json()
    shown = told.run("stats", "--project", "P-1")

    by_type = {one["type"]: one for one in found["types"]}
    assert by_type["SHOT_PLANNED"]["count"] == 2 and by_type["SHOT_PLANNED"]["latency_p95_ms"] == pytest.approx(
        40, rel=1 / 128
    )
    assert found["total"]["count"] == 4 and found["total"]["cost_total"] == 0.07
    assert shown.out.splitlines()[-1].split()[:3] == ["total", "4", "$0.07"]
    assert told.run("stats", "--project", "nobody").out == "There are no events of project 'nobody'.\n"


def test_the_newest_hours_are_shown_and_how_many_are_earlier(place: Place) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    lines = [
        {
            "event_id": f"EV-{n}", "project_id": "P", "type": "X", "actor": "A",
            "timestamp": (first + timedelta(hours=n)).isoformat(),
        }
        for n in range(102)
    ]  # fmt: skip
    (place.directory / "old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert place.run("import", "old.jsonl").code == 0

    shown = place.run("stats", "--by", "hour").out
    few = place.run("stats", "--by", "hour", "-n", "1").out
    every = place.run("stats", "--by", "hour", "--since", "2026-01-01").out
    told = place.run("stats", "--by", "hour", "--json").json()

    assert "\n2026-01-01 01:00" not in shown and "\n2026-01-01 02:00" in shown
    assert "There are 2 earlier hours: --limit or --since shows more." in shown
    assert "\n2026-01-05 05:00" in few and "There are 101 earlier hours" in few
    assert "\n2026-01-01 00:00" in every and "earlier" not in every
    assert len(told["buckets"]) == 102


def test_stats_are_told_by_actor_by_hour_and_by_day(told: Place) -> None:
    actors = told.run("stats", "-p", "P-1", "--json").json()["actors"]
    shown = told.run("stats", "-p", "P-1", "--by", "actor").out.splitlines()
    hours = told.run("stats", "-p", "P-1", "--by", "hour", "--since", "1d", "--json").json()
    table = told.run("stats", "-p", "P-1", "--by", "day").out.splitlines()

    assert {one["actor"]: one["count"] for one in actors}["ShotDirector"] == 2
    assert any(line.split()[:3] == ["ShotDirector", "2", "$0.02"] for line in shown)
    assert hours["grain"] == "hour" and sum(one["count"] for one in hours["buckets"]) == 4
    assert hours["buckets"][0]["start"].endswith(":00:00Z")
    assert table[-1].split()[0] == hours["buckets"][-1]["start"][:10]
    assert told.run("stats", "--by", "day", "--until", "2001-01-01").out == "There are no events in that time.\n"
    assert told.run("stats", "-p", "P-1", "--by", "subscriber").out == "There are no deliveries of project 'P-1'.\n"


def test_stats_by_project_show_those_that_cost_most_and_say_that_there_are_more(told: Place) -> None:
    every = told.run("stats", "--by", "project", "--json").json()
    shown = told.run("stats", "--by", "project", "-n", "1")

    assert every["is_all"] and every["projects"][0]["project_id"] == "P-1"
    assert every["projects"][0]["cost_total"] == 0.07 and every["projects"][0]["deliveries"]["attempts"] == 0
    assert [line.split()[0] for line in shown.out.splitlines()[:3]] == ["PROJECT", "P-1", "total"]
    assert shown.out.endswith("\nThere are more projects than these, which cost most: --limit 10 shows more.\n")
    assert "leave --project out" in told.run("stats", "--by", "project", "-p", "P-1").sentence()
    assert "--limit" in told.run("stats", "--by", "project", "-n", "0").err


def test_sums_that_are_wrong_are_named_and_added_up_again(told: Place) -> None:
    database = sqlite3.connect(told.directory / ".eventbus" / "eventbus.db")
    with database:
        database.execute("DELETE FROM event_statistics WHERE grain = 'total'")

    (finding,) = [one for one in told.run("doctor", "--json").json()["findings"] if one["about"] == "statistics"]
    first, second = told.run("stats", "--recount"), told.run("stats", "--recount")

    assert finding["level"] == "warning" and "eventbus stats --recount" in finding["todo"]
    assert first.out.endswith(" were wrong, and are added up again.\n") and first.out[0] != "0"
    assert second.out == "0 sums were wrong.\n"
    assert told.run("stats", "--recount", "--json").json() == {"wrong": 0}
    assert told.run("stats", "-p", "BULK", "--json").json()["total"]["count"] == 1000


@pytest.mark.parametrize("arguments", [("replay", "--json"), ("replay",), ("tail", "-n", "1000")])
def test_a_reader_that_goes_away_ends_the_command_quietly(told: Place, arguments: tuple[str, ...]) -> None:
    command = told.start(*arguments)
    assert command.stdout is not None and command.stderr is not None

    command.stdout.readline()
    command.stdout.close()

    assert command.wait(20) == 141
    assert command.stderr.read() == ""


@pytest.mark.parametrize("arguments", ["replay --json", "replay", "stats", "stats --json", "tree EV-root"])
def test_a_full_disk_is_a_sentence_and_code_1(told: Place, arguments: str) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, *arguments.split()], stdout=full, stderr=subprocess.PIPE, cwd=told.directory, env=told.environ()
        )

    assert ended.returncode == 1
    assert ended.stderr.decode() == "eventbus: Writing failed: No space left on device.\n"


def test_a_narrow_terminal_gets_fewer_columns_and_no_number_is_cut(told: Place) -> None:
    narrow, wide = (_on_a_terminal(told, {"NO_COLOR": "1"}, "stats", columns=columns) for columns in (80, 200))

    assert "…" not in narrow + wide
    assert "FIRST" in wide and "FIRST" not in narrow


def test_colour_is_for_terminals_without_no_color(told: Place) -> None:
    tree = ("chain", "EV-shot-1", "--tree")

    assert "\x1b[36m" in _on_a_terminal(told, {}, *tree)
    assert "\x1b[36m" not in _on_a_terminal(told, {"NO_COLOR": "1"}, *tree)
    assert "\x1b" not in told.run(*tree).out


def _on_a_terminal(place: Place, variables: dict[str, str], *command: str, columns: int = 120) -> str:
    """Return what a command shows on a terminal of that width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    arguments, variables = [*COMMAND, *command], {"TERM": "xterm-256color", **variables}
    with subprocess.Popen(arguments, stdout=follower, cwd=place.directory, env=place.environ(variables)) as process:
        os.close(follower)
        shown = b""
        try:
            while received := os.read(leader, 65536):
                shown += received
        except OSError:
            pass  # what Linux says when the other end is closed
        os.close(leader)
        assert process.wait(20) == 0
    return shown.decode()
